"""Write a file whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path

from gradreach.errors import GradreachError

__all__ = ["WriteError", "check_writable", "write_whole"]

# What to do about it, by the system's reason; any other reason is told in the system's words.
_FIXES = {
    errno.EACCES: "its folder may not be written to: choose another folder",
    errno.EPERM: "its folder may not be written to: choose another folder",
    errno.ENOENT: "its folder cannot be made there: choose another folder",
    errno.EROFS: "its disk is read-only: choose a folder on another disk",
    errno.ENOSPC: "the disk is full: free some space or choose another disk",
    errno.EDQUOT: "your disk quota is used up: free some space or choose another disk",
    errno.ENOTDIR: "a part of that path is a file, not a folder: choose another path",
    errno.EEXIST: "a part of that path is a file, not a folder: choose another path",
    errno.ENAMETOOLONG: "the name is too long for this file system: choose a shorter one",
}


class WriteError(GradreachError, OSError):
    """A file could not be written; what stood at its path before still stands there."""


def write_whole(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a file so that nobody ever sees half of it, not even after a power cut.

    The content goes to a temporary file in the same folder, is forced to the disk, and takes
    the place of ``path`` in one step. Missing folders are made. A file that was there keeps
    its permissions; a symbolic link keeps pointing at the file, which is replaced.

    Args:
        path: The file to write.
        content: All of it. Text is written as UTF-8, line ends as they are.

    Raises:
        WriteError: The file could not be written: one sentence with the path and the reason.

    Cost:
        Two ``fsync``: some milliseconds on most disks.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_whole(Path(folder) / "new" / "a.txt", "∂L/∂h")
        ...     (Path(folder) / "new" / "a.txt").read_text(encoding="utf-8")
        '∂L/∂h'
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    target = check_writable(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _explained(path, error) from error
    # A short name of its own: the target's may already be as long as the file system allows.
    temporary = target.parent / f".gradreach-{secrets.token_hex(8)}.tmp"
    try:
        try:
            _write(temporary, data, _permissions(target))
            temporary.replace(target)
        finally:  # also on Ctrl-C; after the replacement there is nothing left to remove
            with contextlib.suppress(OSError):
                temporary.unlink()
        _sync_folder(target.parent)
    except OSError as error:
        raise _explained(path, error) from error


def check_writable(path: str | os.PathLike[str]) -> Path:
    """Refuse a path that cannot become a file; nothing is made.

    Called before a long computation, it tells then what `write_whole` would tell at its end.

    Args:
        path: The file that is going to be written.

    Returns:
        The path with symbolic links followed: what `write_whole` replaces.

    Raises:
        WriteError: The folder, or the nearest one above it that exists, may not be written to,
            or something that is no regular file stands at the path.

    Example:
        >>> check_writable("/")
        Traceback (most recent call last):
        gradreach.runs.files.WriteError: cannot write '/': it is a folder: name a file inside it
    """
    try:
        target = Path(os.path.realpath(path))
        if target.is_dir():
            raise WriteError(f"cannot write {_shown(path)}: it is a folder: name a file inside it")
        # Renaming onto /dev/null or a pipe would put a plain file in its place for everyone.
        if target.exists() and not target.is_file():
            raise WriteError(
                f"cannot write {_shown(path)}: it is a device or a pipe: name a regular file"
            )
        folder = next(parent for parent in target.parents if parent.exists())
        if not folder.is_dir():
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
    except WriteError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        raise _explained(path, error) from error
    return target


def _write(temporary: Path, data: bytes, permissions: int | None) -> None:
    with temporary.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    if permissions is not None:
        temporary.chmod(permissions)


def _permissions(target: Path) -> int | None:
    """Return those of the file that stands there; None where the umask decides."""
    try:
        return stat.S_IMODE(target.stat().st_mode)
    except FileNotFoundError:
        return None


def _sync_folder(folder: Path) -> None:
    """Force the new name to the disk, where the system can do that for a folder."""
    with contextlib.suppress(OSError):  # Windows and some network disks cannot; the file is there
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _explained(path: str | os.PathLike[str], error: OSError | ValueError) -> WriteError:
    number = error.errno if isinstance(error, OSError) else None
    reason = _FIXES.get(number or 0) or f"{getattr(error, 'strerror', None) or error}"
    told = WriteError(f"cannot write {_shown(path)}: {reason}")
    told.errno = number
    return told


def _shown(path: str | os.PathLike[str]) -> str:
    return repr(os.fspath(path))
