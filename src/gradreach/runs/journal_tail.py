"""The new entries of a journal, as they are written."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

from gradreach.runs.journal_format import (
    Entry,
    EntryDecoder,
    JournalError,
    intact_parts,
)
from gradreach.runs.journal_reader import journal_path

__all__ = ["JournalTail", "follow"]

POLL_SECONDS = 0.5
BLOCK = 1 << 22


class JournalTail:
    """Reads on where it stopped; never blocks and never disturbs the writer.

    Args:
        path: The run folder, or the journal itself.

    Attributes:
        damaged: Lines so far that failed their check.

    Raises:
        JournalError: There is no journal, or it is of a newer format.

    Example:
        >>> import tempfile
        >>> from gradreach.runs.journal_writer import JournalWriter
        >>> with tempfile.TemporaryDirectory() as folder, JournalWriter(folder) as journal:
        ...     tail = JournalTail(folder)
        ...     [entry.kind for entry in tail.new()]
        ...     journal.row({"loss": 2.0})
        ...     journal.flush(), [entry.data for entry in tail.new()]
        ['meta']
        (True, [{'loss': 2.0}])
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = journal_path(path)
        self.damaged = 0
        self._offset = 0
        self._decoder = EntryDecoder()

    def new(self) -> list[Entry]:
        """Return the entries that have become whole since the last call."""
        entries: list[Entry] = []
        try:
            with self.path.open("rb") as stream:
                stream.seek(self._offset)
                rest = b""
                while block := stream.read(BLOCK):
                    *lines, rest = (rest + block).split(b"\n")
                    for line in lines:
                        self._offset += len(line) + 1
                        entries += self._entries(line)
        except JournalError:
            raise
        except OSError as error:
            raise JournalError(
                f"'{self.path}' cannot be read ({error.strerror}): was it moved or deleted?"
            ) from error
        return entries

    def _entries(self, line: bytes) -> Iterator[Entry]:
        if not line:
            return
        parts = list(intact_parts(line))
        self.damaged += parts != [line]
        for part in parts:
            entry = self._decoder.entry(part)
            if entry is None:
                self.damaged += 1
            else:
                yield entry


def follow(
    path: str | os.PathLike[str],
    *,
    poll: float = POLL_SECONDS,
    enough: Callable[[], bool] = lambda: False,
) -> Iterator[Entry]:
    """Yield every entry of a journal, then the new ones, until the run ends.

    Args:
        path: The run folder, or the journal itself.
        poll: Seconds between two looks.
        enough: Asked before each look; whether to stop. A killed run never says that it ended.

    Raises:
        JournalError: There is no journal, or it is of a newer format.

    Example:
        >>> import tempfile
        >>> from gradreach.runs.journal_writer import JournalWriter
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with JournalWriter(folder) as journal:
        ...         journal.row({"loss": 2.0})
        ...     [entry.kind for entry in follow(folder)]
        ['meta', 'row', 'end']
    """
    tail = JournalTail(path)
    while not enough():
        entries = tail.new()
        yield from entries
        if entries and entries[-1].kind == "end":
            return
        time.sleep(poll)
