"""Where a journal that is there already is to be continued."""

from __future__ import annotations

import os

from gradreach.runs.journal_format import JournalError, code_of, entry_of, is_intact

__all__ = ["end_of_journal"]

BLOCK = 1 << 16
HEADER_BYTES = 1 << 20  # more than any first line has
MARK = b'{"crc":"'


def end_of_journal(descriptor: int) -> tuple[int, int]:
    """Return the size up to the last line end, and the number of the next entry.

    Raises:
        JournalError: The file is no journal, or one of a newer format.
    """
    size = os.fstat(descriptor).st_size
    if size == 0:
        return 0, 0
    first = _read(descriptor, 0, min(size, HEADER_BYTES)).partition(b"\n")[0]
    if not first.startswith(MARK[: len(first)]):
        raise JournalError("it is no journal of gradreach: name another run folder")
    if is_intact(first):  # a damaged one does not forbid to go on: the next session tells again
        code_of(entry_of(first, None))
    return _last_line(descriptor, size)


def _last_line(descriptor: int, size: int) -> tuple[int, int]:
    """Look back for the last intact line; damaged ones behind it had numbers, too."""
    length = BLOCK
    while True:
        start = max(0, size - length)
        block = _read(descriptor, start, size - start)
        whole, _, torn = block.rpartition(b"\n")
        lines = whole.split(b"\n")
        if start > 0:
            lines = lines[1:]  # cut by the block's beginning
        for back, line in enumerate(reversed(lines)):
            if is_intact(line):
                number = int(line.partition(b'"n":')[2].partition(b",")[0])
                return size - len(torn), number + 1 + back
        if start == 0:
            return size - len(torn), len(lines)
        length *= 8


def _read(descriptor: int, start: int, length: int) -> bytes:
    os.lseek(descriptor, start, os.SEEK_SET)
    parts = []
    while length > 0 and (part := os.read(descriptor, length)):
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
