"""Reads a journal, also one that is being written, was killed, or is damaged in places."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from gradreach.records import Event, History, LineProbe, Sample
from gradreach.records.history import COLUMNS
from gradreach.records.plain import Array
from gradreach.runs.journal_format import (
    FILE_NAME,
    HEAD,
    ROW,
    Entry,
    EntryDecoder,
    JournalError,
    RowCode,
    intact_parts,
    is_intact,
)
from gradreach.runs.row_block import row_block

__all__ = ["Journal", "journal_path", "read_history", "read_journal"]

Record = TypeVar("Record")

BLOCK = 1 << 22  # bytes read at once


@dataclass(frozen=True, kw_only=True)
class Journal:
    """What was read, and what was wrong with it.

    Attributes:
        history: Everything that is whole.
        ended: Whether the run was closed; not so while it runs, or after a kill.
        torn: Whether the last line is not whole: it is being written, or its writer was killed.
        damaged: Lines in between that fail their check; they are left out.
        missing: Sequence numbers that no line has.
        repeated: Lines with a number that was there already; the first is kept.
        reordered: Places where the numbers fall; all lines are sorted in.
    """

    history: History
    ended: bool
    torn: bool
    damaged: int
    missing: int
    repeated: int
    reordered: int

    @property
    def complaints(self) -> list[str]:
        """What a reader must know, in sentences; a torn last line is not worth one.

        Example:
            >>> Journal(history=History(rows={}), ended=True, torn=False, damaged=1, missing=1,
            ...         repeated=0, reordered=0).complaints
            ['1 line of the journal is damaged and left out.', '1 entry of the journal is missing.']
        """
        told = [
            (self.damaged, "line{s} of the journal {are} damaged and left out"),
            (self.missing, "entr{ies} of the journal {are} missing"),
            (self.repeated, "line{s} of the journal repeat{S} another's number and {are} left out"),
            (self.reordered, "time{s} the journal goes back in its own order"),
        ]  # fmt: skip
        return [
            f"{count} {_counted(text, count)}." for count, text in told if count
        ]  # fmt: skip


def read_history(path: str | os.PathLike[str]) -> History:
    """Return the history that a run folder's journal tells.

    Args:
        path: The run folder, or the journal itself.

    Raises:
        JournalError: There is no journal, or it is of a newer format.

    Example:
        >>> read_history("no/such/run")
        Traceback (most recent call last):
        gradreach.runs.journal_format.JournalError: there is no journal 'no/such/run/journal.jsonl':
        name the folder of a watched run
    """
    return read_journal(path).history


def read_journal(path: str | os.PathLike[str]) -> Journal:
    """Return the history with a report on the journal's own state.

    Args:
        path: The run folder, or the journal itself.

    Raises:
        JournalError: There is no journal, or it is of a newer format.

    Cost:
        Some microseconds a row; see docs/benchmarks.md.
    """
    file = journal_path(path)
    reading = _Reading()
    try:
        with file.open("rb") as stream:
            for lines, tail in _blocks(stream.fileno()):
                reading.take(lines)
                reading.tail = tail
    except JournalError as error:
        raise JournalError(f"'{file}' cannot be read: {error}") from None
    except OSError as error:
        raise JournalError(
            f"'{file}' cannot be read ({error.strerror or error}): name the folder of a watched run"
        ) from error
    return reading.journal()


def journal_path(path: str | os.PathLike[str]) -> Path:
    """Return the journal that a run folder or a path names.

    Raises:
        JournalError: There is none.
    """
    named = Path(path)
    try:
        file = named if named.is_file() else named / FILE_NAME
        if file.is_file():
            return file
    except (OSError, ValueError):  # a name too long, a NUL character in it
        file = named
    raise JournalError(f"there is no journal '{file}': name the folder of a watched run")


def _blocks(descriptor: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield whole lines, many at once, and what stands behind the last of them."""
    rest = b""
    while block := os.read(descriptor, BLOCK):
        lines, end, rest = (rest + block).rpartition(b"\n")
        yield lines + end, rest


@dataclass
class _Reading:
    """What has been read so far."""

    decoder: EntryDecoder = field(default_factory=EntryDecoder)
    tail: bytes = b""
    damaged: int = 0
    blocks: list[tuple[tuple[str, ...], Array, Array]] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    numbers: list[Array] = field(default_factory=list)  # all of them, in the file's order

    def take(self, data: bytes) -> None:
        """Take in whole lines: rows many at once, all others one by one."""
        at = 0
        while at < len(data):
            code, rows = self.decoder.code, None
            if code is not None and data.startswith(ROW, at + HEAD):
                rows = row_block(data, at, code)
            if code is None or rows is None:
                end = data.index(b"\n", at)
                self.line(data[at:end])
                at = end + 1
                continue
            self._add(code, rows.numbers, rows.values)
            for line in rows.damaged:
                self.line(line)
            at += rows.size

    def line(self, line: bytes) -> None:
        """Take in one line."""
        if is_intact(line):
            self._entry(line)
        elif line:  # an empty one is where a line end stands behind half a line
            self.damaged += 1
            for part in intact_parts(line):
                self._entry(part)

    def journal(self) -> Journal:
        """Put everything in order."""
        torn = bool(self.tail) and not is_intact(self.tail)
        for part in intact_parts(self.tail):
            self._entry(part)
        if not self.numbers and (self.damaged or torn):
            raise JournalError("not one line of it is whole")
        numbers = np.concatenate([np.zeros(0), *self.numbers])
        distinct = np.unique(numbers)
        # Numbers begin at 0; what is missing behind the last one nobody can know.
        span = int(distinct[-1]) + 1 if len(distinct) else 0
        entries = _first_of_each(self.entries)
        history = self._history(entries)
        return Journal(
            history=history,
            ended=bool(entries) and entries[-1].kind == "end" and entries[-1].number == span - 1,
            torn=torn,
            damaged=self.damaged,
            missing=span - len(distinct),
            repeated=len(numbers) - len(distinct),
            reordered=int((np.diff(numbers) < 0).sum()),
        )

    def _entry(self, line: bytes) -> None:
        """Take in an intact line."""
        entry = self.decoder.entry(line)
        if entry is None:
            self.damaged += 1
            return
        if entry.kind == "row":
            values = np.array([list(entry.data.values())], dtype=np.float64)
            self._add(RowCode(tuple(entry.data)), np.array([float(entry.number)]), values)
            return
        self.entries.append(entry)
        self.numbers.append(np.array([float(entry.number)]))

    def _add(self, code: RowCode, numbers: Array, values: Array) -> None:
        self.blocks.append((code.columns, numbers, values))
        self.numbers.append(numbers)

    def _history(self, entries: list[Entry]) -> History:
        told: dict[str, Any] = {}
        for entry in entries:
            if entry.kind in ("meta", "end"):
                told |= _meta_of(entry)
        lag = told.pop("needs_lag", None)
        return History(
            rows=self._columns(),
            samples=self._records(entries, "sample", Sample.from_dict),
            probes=self._records(entries, "probe", LineProbe.from_dict),
            events=self._records(entries, "event", Event.from_dict),
            needs_lag=lag if isinstance(lag, int) else None,
            meta=told,
        )

    def _records(
        self, entries: list[Entry], kind: str, build: Callable[[Any], Record]
    ) -> tuple[Record, ...]:
        """Build the records of a kind; one that this version does not know is left out."""
        built = []
        for entry in entries:
            if entry.kind == kind:
                try:
                    built.append(build(entry.data))
                except (ValueError, TypeError, KeyError, AttributeError):
                    self.damaged += 1
        return tuple(built)

    def _columns(self) -> dict[str, Array]:
        """Return the columns that this version knows, rows in the order of their numbers."""
        numbers = np.concatenate([np.zeros(0), *(block[1] for block in self.blocks)])
        kept: Any = slice(None)
        if (np.diff(numbers) <= 0).any():
            kept = np.unique(numbers, return_index=True)[1]  # sorted, the first of each
        columns: dict[str, Array] = {}
        for name in COLUMNS:
            parts = [
                values[:, names.index(name)] if name in names else np.full(len(values), np.nan)
                for names, _, values in self.blocks
            ]
            columns[name] = np.concatenate([np.zeros(0), *parts])[kept]
        return columns


def _first_of_each(entries: list[Entry]) -> list[Entry]:
    kept: dict[int, Entry] = {}
    for entry in entries:
        kept.setdefault(entry.number, entry)
    return [kept[number] for number in sorted(kept)]


def _meta_of(entry: Entry) -> dict[str, Any]:
    """Return what an entry adds to the history's ``meta``; the header's own keys stay out."""
    data = dict(entry.data)
    if "columns" not in data:
        return data
    header = {"gradreach": data.get("gradreach"), "begun": data.get("time")}
    meta = data.get("meta")
    return header | meta if isinstance(meta, dict) else header


def _counted(text: str, count: int) -> str:
    one = {"s": "", "ies": "y", "are": "is", "S": "s"}
    many = {"s": "s", "ies": "ies", "are": "are", "S": ""}
    return text.format(**(one if count == 1 else many))
