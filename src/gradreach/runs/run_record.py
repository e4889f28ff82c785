"""Everything that a run folder holds, whatever became of the run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradreach.records import GradientFlow, History
from gradreach.records.sighting import Sighting
from gradreach.runs.folder import RunFolder, RunFolderError
from gradreach.runs.journal_format import FILE_NAME
from gradreach.runs.journal_reader import read_journal
from gradreach.runs.writer_lock import writer_of

__all__ = ["MARKS", "RunRecord", "is_run", "read_run"]

MARKS = (FILE_NAME, "meta.json")
"""A run is known by either: the second is missing while it is being written."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A run as it was read.

    Attributes:
        folder: Where it stands. state: ``"ended"``, ``"stopped"`` (after the steps asked for),
            ``"running"``, or ``"killed"``: nobody writes it, and it never said that it ended.
        history: The training over its steps; ``None`` where no journal was written.
        findings: As they were written; none where the run was killed before.
        flows: The first and the latest measured pass, each with its optimizer step.
        meta: What ``meta.json`` says. complaints: What is damaged or missing, in sentences.
        writer: Process and host that write it now, in words.
    """

    folder: RunFolder
    state: str
    history: History | None
    findings: tuple[Sighting, ...]
    flows: tuple[tuple[int, GradientFlow], ...]
    meta: Mapping[str, Any]
    complaints: tuple[str, ...]
    writer: str | None = None

    @property
    def name(self) -> str:
        """What was run: the script, or the folder's own name where a loop was watched."""
        command = self.meta.get("command")
        named = command[0] if isinstance(command, list) and command else None
        return str(named or self.folder.path.resolve().name)


def read_run(path: str | os.PathLike[str]) -> RunRecord:
    """Read a run folder; what is missing or damaged in it is told, not raised.

    Raises:
        RunFolderError: It is no run folder: neither a journal nor a ``meta.json`` is in it.
        JournalError: Its journal is of a newer format, or nothing of it is whole.

    Example:
        >>> import tempfile
        >>> from gradreach.runs.journal import JournalWriter
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     JournalWriter(folder).row({"loss": 1.0})
        ...     read_run(folder).state
        'running'
    """
    folder = _opened(Path(path))
    journal = read_journal(folder.path) if (folder.path / FILE_NAME).is_file() else None
    complaints = [] if journal is None else list(journal.complaints)
    meta = _read(folder, "meta.json", complaints)
    writer = writer_of(folder.path)
    ended = journal.ended if journal is not None else meta.get("state") != "running"
    state = "running" if writer else "ended" if ended else "killed"
    if state == "ended" and meta.get("state") == "stopped":
        state = "stopped"
    return RunRecord(
        folder=folder,
        state=state,
        history=None if journal is None else journal.history,
        findings=tuple(_sightings(_read(folder, "findings.json", complaints), complaints)),
        flows=tuple(_flows(folder, complaints)),
        meta=meta,
        complaints=tuple(complaints),
        writer=writer,
    )


def is_run(path: Path) -> bool:
    """Whether a run has been written into this folder, or is being written.

    Raises:
        ValueError: There is a NUL character in the path.
    """
    return any((path / name).is_file() for name in MARKS)


def _opened(path: Path) -> RunFolder:
    try:
        folder = path.parent if path.name == FILE_NAME and path.is_file() else path
        if is_run(folder):
            return RunFolder.opened(folder)
    except (OSError, ValueError):  # a name too long, a NUL character in it
        pass
    raise RunFolderError(
        f"'{path}' is no run folder: it has neither {FILE_NAME} nor meta.json; name the folder "
        "that gradreach.watch(run=…) or `gradreach diagnose` has written"
    )


def _read(folder: RunFolder, name: str, complaints: list[str]) -> dict[str, Any]:
    """Return a JSON file of the folder; empty where there is none."""
    if not (folder.path / name).exists():
        return {}
    try:
        found = folder.read(name)
    except RunFolderError as error:
        complaints.append(f"{error}.")
        return {}
    return found if isinstance(found, dict) else {}


def _sightings(plain: Mapping[str, Any], complaints: list[str]) -> list[Sighting]:
    try:
        return [Sighting.from_dict(each) for each in plain.get("findings", [])]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        complaints.append(f"findings.json cannot be read: {error}.")
        return []


def _flows(folder: RunFolder, complaints: list[str]) -> list[tuple[int, GradientFlow]]:
    """Read the first and the latest flow; their names count the passes."""
    names = sorted(path.name for path in (folder.path / "flows").glob("pass-*.json"))
    read = []
    for name in dict.fromkeys([*names[:1], *names[-1:]]):
        try:
            flow = GradientFlow.from_dict(folder.read(f"flows/{name}"))
            read.append((int(flow.meta.get("step", 0)), flow))
        except (RunFolderError, ValueError, TypeError, KeyError, AttributeError) as error:
            complaints.append(f"flows/{name} cannot be read: {error}.")
    return read
