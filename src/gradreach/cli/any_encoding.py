"""Output that no terminal's character set can make fail."""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata

__all__ = ["tolerate_any_encoding"]

HANDLER = "gradreach-nearest"

# What a reader still understands where only ASCII (or Latin-1, …) can be shown.
_NEAREST = {
    **dict(zip("▁▂▃▄▅▆▇█", "12345678", strict=True)),  # the bars of a sparkline, as heights
    "·": ".", "•": "*", "×": "x", "–": "-", "—": "-", "−": "-", "…": "...", "→": "->",
    "←": "<-", "≈": "~", "≤": "<=", "≥": ">=", "‖": "||", "∂": "d", "Σ": "sum", "Π": "prod",
    "φ": "phi", "σ": "sigma", "η": "eta", "γ": "gamma", "λ": "lambda", "δ": "delta",
    "ℓ": "l", "‘": "'", "’": "'", "“": '"', "”": '"',
}  # fmt: skip


def tolerate_any_encoding() -> None:
    """Let standard output and error write the nearest characters they have.

    A stream that can write everything, or whose error handling was chosen by the user, stays
    as it is.

    Example:
        >>> tolerate_any_encoding()
        >>> "∂L/∂h ▁█ ŷ".encode("ascii", HANDLER).decode()
        'dL/dh 18 y'
    """
    codecs.register_error(HANDLER, _nearest)
    for stream in (sys.stdout, sys.stderr):
        if not isinstance(stream, io.TextIOWrapper) or stream.encoding.lower().startswith("utf"):
            continue
        # Python's own defaults; any other was asked for in PYTHONIOENCODING.
        if stream.errors in ("strict", "surrogateescape", "backslashreplace"):
            stream.reconfigure(errors=HANDLER)


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
