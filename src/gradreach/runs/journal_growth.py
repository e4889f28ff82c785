"""What a journal has gained since it was last looked at, rows many at once."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import numpy as np

from gradreach.records.history import COLUMNS
from gradreach.records.plain import Array
from gradreach.runs.journal_format import (
    HEAD,
    ROW,
    Entry,
    EntryDecoder,
    JournalError,
    intact_parts,
)
from gradreach.runs.journal_reader import journal_path
from gradreach.runs.row_block import row_block

__all__ = ["Gain", "JournalGrowth", "ShrunkJournalError"]

BLOCK = 1 << 24  # bytes a look, so that a long journal does not hold up whoever looks
NAMES = tuple(COLUMNS)


class ShrunkJournalError(JournalError):
    """The journal was cut, or replaced by a shorter one: what was read before is another run's."""


@dataclass
class Gain:
    """New rows and new entries of other kinds.

    Attributes:
        rows: ``(N, len(COLUMNS))``, in the order of :data:`COLUMNS`; NaN: not recorded.
        entries: In the order of the file.
        all: Whether nothing is left to read for now.
    """

    rows: Array = field(default_factory=lambda: np.zeros((0, len(NAMES))))
    entries: list[Entry] = field(default_factory=list)
    all: bool = True


class JournalGrowth:
    """Reads a journal on from where it stopped; never blocks and never disturbs the writer.

    :class:`JournalTail` gives entries one by one; this is for whoever shows thousands at once.
    Damaged lines are passed over. A symbolic link is not followed: whoever can write into a
    run folder must not choose what a server reads.

    Args:
        path: The run folder, or the journal itself.

    Raises:
        JournalError: There is no journal, or it is of a newer format.

    Example:
        >>> import tempfile
        >>> from gradreach.runs.journal_writer import JournalWriter
        >>> with tempfile.TemporaryDirectory() as folder, JournalWriter(folder) as journal:
        ...     growth = JournalGrowth(folder)
        ...     _ = growth.new()
        ...     journal.row({"step": 0, "loss": 2.0})
        ...     journal.flush(), growth.new().rows[:, NAMES.index("loss")]
        (True, array([2.]))
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = journal_path(path)
        self._offset = 0
        self._decoder = EntryDecoder()

    def new(self) -> Gain:
        """Return what has become whole since the last call, a block of it at most.

        Raises:
            ShrunkJournalError: It was cut or replaced by a shorter one.
            JournalError: It is gone, or is a link.
        """
        try:
            descriptor = os.open(self.path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
            try:
                if os.fstat(descriptor).st_size < self._offset:
                    raise ShrunkJournalError(
                        f"'{self.path}' became shorter: was the run begun anew?"
                    )
                data = os.pread(descriptor, BLOCK, self._offset)
            finally:
                os.close(descriptor)
        except JournalError:
            raise
        except OSError as error:
            raise JournalError(
                f"'{self.path}' cannot be read ({error.strerror}): was it moved or deleted?"
            ) from error
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return self._decoded(whole, complete=len(data) < BLOCK)

    def _decoded(self, data: bytes, *, complete: bool) -> Gain:
        gain, parts, at = Gain(all=complete), [], 0
        while at < len(data):
            code, block = self._decoder.code, None
            if code is not None and data.startswith(ROW, at + HEAD):
                block = row_block(data, at, code)
            if code is None or block is None:
                end = data.index(b"\n", at)
                for line in intact_parts(data[at:end]):
                    parts += self._line(line, gain)
                at = end + 1
                continue
            parts.append(_known(code.columns, block.values))
            at += block.size
        gain.rows = np.concatenate([gain.rows, *parts])
        return gain

    def _line(self, line: bytes, gain: Gain) -> list[Array]:
        """Take in an intact line: an entry is added, a row is returned."""
        entry = self._decoder.entry(line)
        if entry is None:
            return []
        if entry.kind != "row":
            gain.entries.append(entry)
            return []
        return [_known(tuple(entry.data), np.array([list(entry.data.values())], np.float64))]


def _known(names: tuple[str, ...], values: Array) -> Array:
    """Return rows with the columns that this version knows, in its order."""
    if names == NAMES:
        return values
    rows = np.full((len(values), len(NAMES)), np.nan)
    for place, name in enumerate(names):
        if name in COLUMNS:
            rows[:, NAMES.index(name)] = values[:, place]
    return rows
