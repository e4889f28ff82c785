"""Writes a journal: one line an entry, appended, and nothing a full disk does ends the run."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from gradreach import __version__
from gradreach.records import Event, LineProbe, Sample
from gradreach.records.history import COLUMNS
from gradreach.runs.journal_end import end_of_journal
from gradreach.runs.journal_format import (
    FILE_NAME,
    FORMAT,
    SCHEMA_VERSION,
    JournalError,
    RowCode,
    encode,
    row_line,
)
from gradreach.runs.writer_lock import WriterLock

__all__ = ["JournalWriter"]

SECONDS = 0.5  # a kill takes no more than this, or so many rows, of what was recorded
ROWS = 100
# While the disk is full: what is kept for when it no longer is, and how often that is tried.
KEPT_BYTES = 1 << 20
RETRY_SECONDS = 5.0


class JournalWriter:
    """The one writer of ``journal.jsonl`` in a run folder.

    Rows are gathered and written together, at the latest half a second or 100 rows after the
    first; every other entry and :meth:`flush` write at once. What has been written is there
    for every reader and survives a kill of this process; :meth:`close` forces it to the disk.
    Once open, nothing here raises because of the disk: what cannot be written is told in
    ``trouble``, kept or counted, and a ``gap`` event stands where entries are missing.

    Args:
        folder: The run folder; made where it is missing. A journal in it is continued.
        meta: Plain data on the run, for ``history.meta``.

    Attributes:
        trouble: One sentence on why nothing can be written now; ``None`` while all is well.

    Raises:
        JournalError: Another process writes this journal, or it cannot be written.

    Cost:
        A few microseconds a row.

    Example:
        >>> import tempfile
        >>> from gradreach.runs.journal_reader import read_history
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with JournalWriter(folder, {"cost": "standard"}) as journal:
        ...         journal.row({"step": 0, "loss": 2.5})
        ...     read_history(folder)["loss"]
        array([2.5])
    """

    def __init__(
        self, folder: str | os.PathLike[str], meta: Mapping[str, Any] | None = None
    ) -> None:
        self.folder = Path(folder)
        self.trouble: str | None = None
        self._reason = ""
        self._code = RowCode(tuple(COLUMNS))
        self._pending: list[bytes] = []
        self._pending_bytes = self._dropped = 0
        self._last_step = -1
        self._pid = os.getpid()
        self._tried = self._begun = time.monotonic()
        self._lock: WriterLock | None = None
        self._descriptor: int | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = WriterLock(self.folder)
            self._open()
            self._append("meta", self._header(meta or {}))
            self._write_out()
            if self.trouble is not None:
                raise JournalError(self.trouble)
        except BaseException as error:
            self._give_up()
            if isinstance(error, OSError | ValueError) and not isinstance(error, JournalError):
                raise JournalError(_told(self.path, error)) from error  # ValueError: a NUL in it
            raise

    @property
    def path(self) -> Path:
        """The journal."""
        return self.folder / FILE_NAME

    def row(self, row: Mapping[str, float]) -> None:
        """Add one optimizer step.

        Raises:
            ValueError: It has a column that is none of :data:`~gradreach.records.history.COLUMNS`.
        """
        if not self._takes():
            return
        text = self._code.text(row)
        self._last_step = int(row.get("step", self._last_step))
        self._pend(row_line(self._number, text))
        if len(self._pending) >= ROWS or time.monotonic() - self._begun > SECONDS:
            self._write_out()

    def sample(self, sample: Sample) -> None:
        """Add a sampled pass."""
        self._append_now("sample", sample.to_dict())

    def probe(self, probe: LineProbe) -> None:
        """Add the loss along an update."""
        self._append_now("probe", probe.to_dict())

    def event(self, event: Event) -> None:
        """Add something that happened once."""
        self._append_now("event", event.to_dict())

    def meta(self, meta: Mapping[str, Any]) -> None:
        """Add to what is known of the run."""
        self._append_now("meta", dict(meta))

    def flush(self) -> bool:
        """Write what is gathered; whether everything is readable now, whatever comes."""
        if self._writes():
            self._write_out(now=True)
        return self._writes() and not self._pending

    def close(self, meta: Mapping[str, Any] | None = None) -> None:
        """Say that the run has ended, force it all to the disk, let the folder go."""
        if not self._writes():
            return
        self._write_out(now=True)  # so that the line that says "ended" is never the one dropped
        if not self._pending:
            self._append("end", dict(meta or {}))
            self._write_out(now=True)
        assert self._descriptor is not None
        with contextlib.suppress(OSError):
            os.fsync(self._descriptor)
        self._give_up()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _open(self) -> None:
        """Open the file behind its last whole line, and force its name to the disk."""
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._descriptor = os.open(self.path, flags | getattr(os, "O_CLOEXEC", 0), 0o644)
        self._size, self._number = end_of_journal(self._descriptor)
        os.ftruncate(self._descriptor, self._size)  # half a line that a killed writer left
        with contextlib.suppress(OSError):  # Windows cannot do that for a folder
            folder = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _header(self, meta: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "schema_version": SCHEMA_VERSION,
            "columns": list(COLUMNS),
            "gradreach": __version__,
            "time": time.time(),
            "meta": dict(meta),
        }

    def _writes(self) -> bool:
        """Whether this process is the writer: a fork of it is not."""
        return self._descriptor is not None and os.getpid() == self._pid

    def _takes(self) -> bool:
        """Whether there is room for one more entry; counts it where there is none."""
        if not self._writes():
            return False
        if self.trouble is not None and self._pending_bytes >= KEPT_BYTES:
            self._write_out()
        if self.trouble is None or (self._pending_bytes < KEPT_BYTES and not self._dropped):
            return True
        self._dropped += 1
        return False

    def _append_now(self, kind: str, data: Mapping[str, Any]) -> None:
        if self._takes():
            self._append(kind, data)
            self._write_out()

    def _append(self, kind: str, data: Mapping[str, Any]) -> None:
        self._pend(encode(self._number, kind, data))

    def _pend(self, line: bytes) -> None:
        if not self._pending:
            self._begun = time.monotonic()
        self._number += 1
        self._pending.append(line)
        self._pending_bytes += len(line)

    def _write_out(self, *, now: bool = False) -> None:
        """Write what is pending; after a failure only now and then, unless ``now``."""
        if self.trouble is not None:
            if not now and time.monotonic() - self._tried < RETRY_SECONDS:
                return
            self._tried = time.monotonic()
        if not self._pending:
            return
        if self._dropped:
            self._append("event", self._gap().to_dict())
        try:
            self._write(b"".join(self._pending))
        except OSError as error:
            if self._dropped:  # the gap is not over: it is told when it is
                self._pending_bytes -= len(self._pending.pop())
                self._number -= 1
            self._reason, self.trouble = _reason(error), _told(self.path, error)
            self._tried = time.monotonic()
            return
        self._pending.clear()
        self._pending_bytes = self._dropped = 0
        self.trouble = None

    def _write(self, data: bytes) -> None:
        """Append all of the data, or nothing of it."""
        assert self._descriptor is not None
        if os.fstat(self._descriptor).st_nlink == 0:  # nobody would ever read it
            raise OSError(errno.ENOENT, "it was deleted while it was written")
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(data)

    def _gap(self) -> Event:
        lost, why = self._dropped, self._reason
        return Event(
            kind="gap",
            step=self._last_step + 1,
            text=f"{lost} entr{'ies were' if lost > 1 else 'y was'} lost before this step: {why}",
            numbers={"entries": lost},
        )

    def _give_up(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def _reason(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)


def _told(path: Path, error: OSError | ValueError) -> str:
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
    fix = "free some space" if full else "name another run folder"
    return f"the journal '{path}' cannot be written ({_reason(error)}): {fix}"
