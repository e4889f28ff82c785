"""Output that no terminal's character set can make fail."""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata
from collections.abc import Callable

__all__ = ["tolerate_any_encoding"]

HANDLER = "gradreach-nearest"
# ASCII under a name of its own: click takes a stream named ASCII for a mistake of the locale and
# writes UTF-8 to it.
ASCII = "gradreach-ascii"

# What a reader still understands where only ASCII (or Latin-1, …) can be shown.
_NEAREST = {
    **dict(zip("▁▂▃▄▅▆▇█", "12345678", strict=True)),  # the bars of a sparkline, as heights
    "·": ".", "•": "*", "×": "x", "–": "-", "—": "-", "−": "-", "…": "...", "→": "->",
    "←": "<-", "≈": "~", "≤": "<=", "≥": ">=", "‖": "||", "∂": "d", "Σ": "sum", "Π": "prod",
    "φ": "phi", "σ": "sigma", "η": "eta", "γ": "gamma", "λ": "lambda", "δ": "delta",
    "ℓ": "l", "‘": "'", "’": "'", "“": '"', "”": '"',
}  # fmt: skip


def tolerate_any_encoding() -> Callable[[], None]:
    """Let standard output and error write the nearest characters they have.

    A stream that can write everything, or whose error handling was chosen by the user, stays
    as it is.

    Returns:
        A function that makes the streams what they were.

    Example:
        >>> undo = tolerate_any_encoding()
        >>> "∂L/∂h ▁█ ŷ".encode("ascii", HANDLER).decode()
        'dL/dh 18 y'
        >>> undo()
    """
    codecs.register_error(HANDLER, _nearest)
    codecs.register(_ascii)
    changed: list[tuple[io.TextIOWrapper, str, str]] = []
    for stream in (sys.stdout, sys.stderr):
        if not isinstance(stream, io.TextIOWrapper) or stream.encoding.lower().startswith("utf"):
            continue
        # Python's own defaults; any other was asked for in PYTHONIOENCODING.
        if stream.errors in ("strict", "surrogateescape", "backslashreplace"):
            changed.append((stream, stream.encoding, stream.errors))
            plain = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(encoding=ASCII if plain else stream.encoding, errors=HANDLER)

    def undo() -> None:
        while changed:
            stream, encoding, errors = changed.pop()
            stream.reconfigure(encoding=encoding, errors=errors)

    return undo


def _ascii(name: str) -> codecs.CodecInfo | None:
    if name != ASCII.replace("-", "_"):
        return None
    known = codecs.lookup("ascii")
    return codecs.CodecInfo(
        name=ASCII,
        encode=known.encode,
        decode=known.decode,
        incrementalencoder=known.incrementalencoder,
        incrementaldecoder=known.incrementaldecoder,
        streamreader=known.streamreader,
        streamwriter=known.streamwriter,
    )


def _nearest(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    told = "".join(map(_plain, error.object[error.start : error.end]))
    return told, error.end


def _plain(character: str) -> str:
    if character in _NEAREST:
        told = _NEAREST[character]
    else:  # ŷ -> y, ½ -> 1/2, ⁺ -> +, ₂ -> 2
        told = unicodedata.normalize("NFKD", character).replace("\N{FRACTION SLASH}", "/")
    return told.encode("ascii", "ignore").decode() or "?"
