"""How one entry of a journal is written as a line, and told whole from damaged."""

from __future__ import annotations

import binascii
import json
import re
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from gradreach.errors import GradreachError
from gradreach.records.history import COLUMNS
from gradreach.runs.plain_json import loads, tagged

__all__ = [
    "FILE_NAME",
    "FORMAT",
    "KINDS",
    "SCHEMA_VERSION",
    "Entry",
    "EntryDecoder",
    "JournalError",
    "RowCode",
    "code_of",
    "encode",
    "entry_of",
    "intact_parts",
    "is_intact",
    "row_line",
]

FILE_NAME = "journal.jsonl"
FORMAT = "gradreach-journal"
SCHEMA_VERSION = 1
KINDS = ("meta", "row", "sample", "probe", "event", "end")

ROW = b'"kind":"row","n":'
HEAD = len('{"crc":"12345678",')
_START = re.compile(rb'\{"crc":"[0-9a-f]{8}",')

# A column that a row does not have is this NaN, which no computation yields: what was measured
# as NaN and what was not measured stay two things.
NOT_RECORDED_BITS = 0x7FF8_0000_0000_0001
NOT_RECORDED: float = struct.unpack("<d", struct.pack("<Q", NOT_RECORDED_BITS))[0]


class JournalError(GradreachError, OSError):
    """A journal cannot be opened for writing, or cannot be read."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a journal.

    Attributes:
        number: Its sequence number, from 0.
        kind: One of :data:`KINDS`.
        data: A row's numbers by column, else what ``to_dict`` of the record returned.
    """

    number: int
    kind: str
    data: Any


def encode(number: int, kind: str, data: Any) -> bytes:
    r"""Return an entry as a line: strict JSON in ASCII, its CRC-32 first.

    The CRC is that of every byte between the comma behind it and the end of the line.

    Example:
        >>> encode(7, "meta", {"loss": float("nan")})
        b'{"crc":"9b86468d","kind":"meta","n":7,"data":{"loss":{"$float":"NaN"}}}\n'
    """
    told = json.dumps(tagged(data), allow_nan=False, separators=(",", ":"))
    return _sealed(f'"kind":"{kind}","n":{number},"data":{told}}}'.encode("ascii"))


def row_line(number: int, text: bytes) -> bytes:
    """Return a row as a line; every row's looks the same, so that readers decode many at once."""
    return _sealed(b'%b%d,"data":"%b"}' % (ROW, number, text))


def _sealed(body: bytes) -> bytes:
    """Put the CRC before a body and end the line."""
    return b'{"crc":"%08x",%b\n' % (zlib.crc32(body), body)


def is_intact(line: bytes) -> bool:
    """Whether a line, without its end, is what was written.

    Example:
        >>> line = encode(0, "end", {})[:-1]
        >>> is_intact(line), is_intact(line.replace(b"end", b"and")), is_intact(line[:-1])
        (True, False, False)
    """
    return line[:HEAD] == b'{"crc":"%08x",' % zlib.crc32(line[HEAD:])


def intact_parts(piece: bytes) -> Iterator[bytes]:
    """Yield the whole lines in a damaged piece: two of them, where the break between them broke."""
    starts = [found.start() for found in _START.finditer(piece)]
    for start, end in zip(starts, [*starts[1:], len(piece)], strict=False):
        for candidate in (piece[start:end], piece[start : end - 1]):
            if is_intact(candidate):
                yield candidate
                break


def entry_of(line: bytes, code: RowCode | None) -> Entry:
    """Return the entry of an intact line; without ``code``, a row tells its columns by its length.

    Raises:
        ValueError: It is intact, but was written by something else.
    """
    try:
        plain = loads(line.decode("ascii"))
    except RecursionError as error:
        raise ValueError("no entry of a journal") from error
    if not isinstance(plain, dict) or not {"n", "kind", "data"} <= plain.keys():
        raise ValueError("no entry of a journal")
    number, kind, data = int(plain["n"]), str(plain["kind"]), plain["data"]
    if kind == "row" and isinstance(data, str):
        return Entry(number, kind, (code or RowCode.of(data)).row(data))
    if kind == "row" or not isinstance(data, dict):
        raise ValueError("no entry of a journal")
    return Entry(number, kind, data)


def code_of(entry: Entry) -> RowCode | None:
    """Return how the rows behind an entry are written, where it says so: a session's first line.

    Raises:
        JournalError: They are of a newer format.
        ValueError: It says something else than we ever wrote.
    """
    if entry.kind != "meta" or "columns" not in entry.data:
        return None
    version = entry.data.get("schema_version")
    if entry.data.get("format") != FORMAT or not isinstance(version, int):
        raise ValueError("no first line of a journal")
    if version > SCHEMA_VERSION:
        raise JournalError(
            f"it has schema version {version} and this gradreach reads up to {SCHEMA_VERSION}: "
            "use the version of gradreach that wrote it, or a newer one"
        )
    return RowCode(tuple(map(str, entry.data["columns"])))


class RowCode:
    """The numbers of a row as text: base64 of little-endian binary64, in the columns' order.

    Decimal digits that give back the same bits cost ten times the time to write, eight times
    to read, and more room (docs/decisions/0010-journal.md); NaN and the infinities need no
    tags like this.

    Args:
        columns: Their names, in order.

    Example:
        >>> code = RowCode(["step", "loss", "nonfinite"])
        >>> text = code.text({"step": 3, "loss": float("-inf")})
        >>> text, code.row(text)
        (b'AAAAAAAACEAAAAAAAADw/wEAAAAAAPh/', {'step': 3.0, 'loss': -inf})
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = tuple(columns)
        self.known = frozenset(columns)
        self._struct = struct.Struct(f"<{len(self.columns)}d")
        self.length = -(-self._struct.size // 3) * 4  # of the text

    @classmethod
    def of(cls, text: str | bytes) -> Self:
        """Return the code of a row whose session's first line is lost.

        Within a schema version columns are only ever added at the end, so a row's length tells.

        Raises:
            ValueError: It is no row.
        """
        count, rest = divmod(len(binascii.a2b_base64(text)), 8)
        if rest or not 0 < count <= len(COLUMNS):
            raise ValueError("no row of a journal")
        return cls(tuple(COLUMNS)[:count])

    def text(self, row: Mapping[str, float]) -> bytes:
        """Return a row's text.

        Raises:
            ValueError: It has a column that there is not.
        """
        if not row.keys() <= self.known:
            unknown = ", ".join(sorted(row.keys() - self.known))
            raise ValueError(f"row(): argument 'row' has unknown columns {unknown}")
        get = row.get
        values = [get(name, NOT_RECORDED) for name in self.columns]
        return binascii.b2a_base64(self._struct.pack(*values), newline=False)

    def row(self, text: str | bytes) -> dict[str, float]:
        """Undo :meth:`text`, without the columns that the row did not have.

        Raises:
            ValueError: It is no row of these columns.
        """
        packed = binascii.a2b_base64(text)
        if len(packed) != self._struct.size:
            raise ValueError(f"a row has {len(self.columns)} numbers")
        bits = struct.unpack(f"<{len(self.columns)}Q", packed)
        values = self._struct.unpack(packed)
        return {
            name: value
            for name, value, bit in zip(self.columns, values, bits, strict=True)
            if bit != NOT_RECORDED_BITS
        }


class EntryDecoder:
    """Decodes one intact line after the other; how rows are written stands in a line before them.

    Attributes:
        code: How they are, as of the last line that said so.
    """

    def __init__(self) -> None:
        self.code: RowCode | None = None

    def entry(self, line: bytes) -> Entry | None:
        """Return what a line says; ``None`` for one that is intact, but that we never wrote.

        Raises:
            JournalError: It is of a newer format.
        """
        try:
            entry = entry_of(line, self.code)
            self.code = code_of(entry) or self.code
        except (ValueError, TypeError):
            return None
        return entry
