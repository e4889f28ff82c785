"""One writer a run: the file that says who it is, taken over from a process that is gone."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gradreach.runs.journal_format import JournalError

try:
    import fcntl
except ImportError:  # Windows: two take-overs in the same millisecond are not told apart there
    fcntl = None  # type: ignore[assignment]

__all__ = ["WriterLock", "writer_of"]

FILE_NAME = "journal.lock"


class WriterLock:
    """Says in ``journal.lock`` which process writes a run.

    The system's own file locks would be inherited by every forked worker of a data loader and
    outlive the training in them, and some network file systems have none. So the file names
    the writer (process, host, start of the machine, start of the process) and whoever comes
    looks whether that process still lives.

    Args:
        folder: The run folder.

    Raises:
        JournalError: Somebody else writes it.
        OSError: The file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self.name = folder.resolve().name
        self._me = _this_process()
        with _alone(self.path) as descriptor:
            holder = _holder(descriptor)
            if holder is not None and _lives(holder):
                raise JournalError(
                    f"run '{self.name}' is being written by pid {holder['pid']} on host "
                    f"{holder['host']}: wait for it to end or name another run folder (if that "
                    f"process is gone, remove '{self.path}')"
                )
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, json.dumps(self._me).encode())

    def release(self) -> None:
        """Remove the file, if it is still ours."""
        with contextlib.suppress(OSError), _alone(self.path, create=False) as descriptor:
            if _holder(descriptor) == self._me:
                self.path.unlink()


def writer_of(folder: Path) -> str | None:
    """Return the process that writes a run, in words; ``None`` where none does any more."""
    try:
        named = _named((folder / FILE_NAME).read_bytes())
    except OSError:
        return None
    return f"pid {named['pid']} on host {named['host']}" if named and _lives(named) else None


@contextlib.contextmanager
def _alone(path: Path, *, create: bool = True) -> Iterator[int]:
    """Open the lock file for one process at a time: the look and the take-over are one act."""
    while True:
        descriptor = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o644)
        try:
            if fcntl is not None:
                with contextlib.suppress(OSError):  # a file system without locks: as on Windows
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Whoever held it before may have removed it meanwhile: then this is no longer the one.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    yield descriptor
                    return
        finally:
            os.close(descriptor)


def _holder(descriptor: int) -> dict[str, Any] | None:
    """Return who the file names; ``None`` where it names nobody."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    return _named(os.read(descriptor, 4096))


def _named(text: bytes) -> dict[str, Any] | None:
    try:
        named = json.loads(text)
    except ValueError:  # empty: just made, or its writer was killed between two calls
        return None
    return named if isinstance(named, dict) and {"pid", "host"} <= named.keys() else None


def _this_process() -> dict[str, Any]:
    pid = os.getpid()
    return {"pid": pid, "host": socket.gethostname(), "boot": _boot(), "started": _started(pid)}


def _lives(holder: dict[str, Any]) -> bool:
    """Whether the process may still be there; of another host nothing can be known."""
    if holder["host"] != socket.gethostname():
        return True
    boot, pid = _boot(), holder["pid"]
    if boot is not None and holder.get("boot") not in (None, boot):
        return False
    if os.name == "nt":  # os.kill would end it there, whatever the signal
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, TypeError, OverflowError):
        return False
    except PermissionError:  # another user's
        pass
    started = _started(pid)  # the number may have gone to another process
    return started is None or holder.get("started") in (None, started)


def _boot() -> str | None:
    """Return the number that Linux gives to each start of a machine."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    return None


def _started(pid: int) -> str | None:
    """Return when a process began, in ticks since the machine did, where Linux tells."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        told = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace")
        fields = told.rpartition(")")[2].split()  # a program's name may hold spaces and brackets
        return "ended" if fields[0] == "Z" else fields[19]  # Z: dead, its parent has not looked
    return None
