"""The folder of one watched run."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradreach.errors import GradreachError
from gradreach.runs.files import write_whole
from gradreach.runs.plain_json import dumps, loads

__all__ = ["RunFolder", "RunFolderError"]

SCHEMA_VERSION = 1


class RunFolderError(GradreachError, OSError):
    """A run folder cannot be made or read."""


class RunFolder:
    """``meta.json``, ``findings.json``, ``flows/*.json`` and ``report.html`` of one run.

    Every file is written by rename, so that the folder is readable at any moment, also after
    a kill. The journal beside them has a writer of its own (:mod:`gradreach.runs.journal`).

    Args:
        path: The folder; it is made, and must be empty or not exist.

    Raises:
        RunFolderError: Something stands there already, or it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                _refuse_if_written(path)
                raise RunFolderError(
                    f"the run folder '{path}' is not empty: name another one with --run"
                )
            (path / "flows").mkdir()
        except RunFolderError:
            raise
        except (OSError, ValueError) as error:
            raise _refused(path, error) from error

    @classmethod
    def fresh(cls, name: str, parent: Path = Path("gradreach-runs")) -> RunFolder:
        """Make a new folder named after a script and the time."""
        # A path is never built from a user's string as it is.
        safe = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:40] or "run"
        stamp = time.strftime("%Y%m%d-%H%M%S")
        try:
            parent.mkdir(parents=True, exist_ok=True)
            for count in range(1, 1000):
                path = parent / (f"{safe}-{stamp}" + (f"-{count}" if count > 1 else ""))
                # Two runs may begin in the same second: whoever makes the folder has it.
                with contextlib.suppress(FileExistsError):
                    path.mkdir()
                    return cls(path)
        except RunFolderError:
            raise
        except OSError as error:
            raise _refused(parent, error) from error
        raise RunFolderError(
            f"no free name for a run folder in '{parent}': name another one with --run"
        )

    @classmethod
    def opened(cls, path: Path) -> RunFolder:
        """Return an existing run folder."""
        folder = cls.__new__(cls)
        folder.path = path
        return folder

    @property
    def report(self) -> Path:
        """Path of the report."""
        return self.path / "report.html"

    def write_meta(self, meta: Mapping[str, Any]) -> None:
        """Write what the run was: command, versions, state."""
        self._write("meta.json", {"schema_version": SCHEMA_VERSION, **meta})

    def write_findings(self, findings: list[dict[str, Any]]) -> None:
        """Write the findings so far."""
        self._write("findings.json", {"schema_version": SCHEMA_VERSION, "findings": findings})

    def write_flow(self, number: int, flow: Mapping[str, Any]) -> None:
        """Write the gradient flow of one sampled pass."""
        self._write(f"flows/pass-{number:08d}.json", flow)

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        write_whole(self.path / name, dumps(content) + "\n")

    def read(self, name: str) -> Any:
        """Read one of the folder's JSON files.

        Raises:
            RunFolderError: It is not there, or is no JSON.
        """
        try:
            return loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunFolderError(f"'{self.path / name}' cannot be read: {error}") from error


def _refuse_if_written(path: Path) -> None:
    """Name the process that writes a run, where one does."""
    from gradreach.runs.writer_lock import writer_of  # only now: it brings NumPy

    writer = writer_of(path)
    if writer is not None:
        raise RunFolderError(
            f"run '{path.resolve().name}' is being written by {writer}: wait for it to end or name "
            "another run folder"
        )


def _refused(path: Path, error: OSError | ValueError) -> RunFolderError:
    reason = getattr(error, "strerror", None) or error  # ValueError: a NUL character in the path
    return RunFolderError(
        f"the run folder '{path}' cannot be made ({reason}): name another one with --run"
    )
