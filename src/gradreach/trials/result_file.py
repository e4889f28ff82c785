"""A trial's result on the disk: whole and unchanged, or no result."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from gradreach.errors import GradreachError
from gradreach.records.trial import Trial
from gradreach.runs.files import write_whole
from gradreach.runs.plain_json import dumps, loads

__all__ = ["FILE_NAME", "BrokenResultError", "decoded", "encoded", "read_result", "write_result"]

FILE_NAME = "result.json"


class BrokenResultError(GradreachError, ValueError):
    """What stands in a result file is not what was written."""


def write_result(folder: Path, trial: Trial) -> None:
    """Write the result into a trial's folder, by rename.

    Raises:
        WriteError: The folder cannot be written to, or the disk is full.
    """
    write_whole(folder / FILE_NAME, encoded(trial))


def read_result(folder: Path) -> Trial | None:
    """Return the trial; ``None`` where there is no result yet.

    Raises:
        BrokenResultError: There is a file, but it is damaged or of another version.
    """
    try:
        text = (folder / FILE_NAME).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BrokenResultError(f"it cannot be read ({error.strerror})") from error
    return decoded(text)


def encoded(trial: Trial) -> str:
    """Return the trial as text with its own checksum.

    Example:
        >>> trial = Trial(treatment="control", seed=0, outcome="finished", metric=0.5)
        >>> decoded(encoded(trial).encode()).metric
        0.5
    """
    plain = trial.to_dict()
    return dumps({"sha256": _checksum(plain), "trial": plain}) + "\n"


def decoded(text: bytes) -> Trial:
    """Undo :func:`encoded`.

    Raises:
        BrokenResultError: A bit has changed, a part is missing, or another version wrote it.
    """
    try:
        found = loads(text.decode())
        plain, checksum = found["trial"], found["sha256"]
        if checksum != _checksum(plain):
            raise BrokenResultError("its checksum does not match")
        return Trial.from_dict(plain)
    except (ValueError, KeyError, TypeError) as error:
        raise BrokenResultError(f"{error}") from error


def _checksum(plain: dict[str, Any]) -> str:
    # Of the text, not the bytes of the file: floats are written as their shortest repr, so that
    # what is read writes itself the same again.
    return hashlib.sha256(dumps(plain).encode()).hexdigest()
