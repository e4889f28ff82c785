"""The folder of a study: one folder a trial, and one process at a time that adds to it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gradreach.errors import GradreachError
from gradreach.records.trial import Trial
from gradreach.runs.files import write_whole
from gradreach.runs.journal_format import JournalError
from gradreach.runs.plain_json import dumps, loads
from gradreach.runs.writer_lock import WriterLock, writer_of
from gradreach.trials.key import identity_of, key_of
from gradreach.trials.result_file import FILE_NAME, BrokenResultError, read_result, write_result
from gradreach.trials.spec import TrialSpec

__all__ = ["Study", "StudyError", "opened_study"]

SCHEMA_VERSION = 1
SPEC = "spec.json"
LOG = "log.txt"


class StudyError(GradreachError, OSError):
    """A study cannot be kept in this folder."""


class Study:
    """``spec.json`` and ``trials/KEY/{spec.json,result.json,log.txt}``.

    What is kept here is read, compared and shown; nothing in it is ever run: which script or
    function a trial trains comes from the caller, also when a study is taken up again.

    Args:
        path: The folder. It is made, or belongs to a study of the same target.
        spec: Any trial of the study.

    Raises:
        StudyError: The folder holds a study of something else, or cannot be used.
    """

    def __init__(self, path: Path, spec: TrialSpec) -> None:
        self.path = path
        self.lasts = True
        """Whether the folder outlives this process."""
        self.broken: list[str] = []
        """Results that had to be thrown away, each with its reason."""
        # As it comes back from the file: tuples are lists there.
        self.identity = loads(dumps(identity_of(spec)))
        plain = {"record": "Study", "schema_version": SCHEMA_VERSION, "of": self.identity}
        try:
            path.mkdir(parents=True, exist_ok=True)
            if (path / SPEC).exists():
                _refuse_other(path, plain)
            else:
                if any(path.iterdir()):
                    raise StudyError(
                        f"the folder '{path}' is not empty and holds no study: name another one"
                    )
                write_whole(path / SPEC, dumps(plain, indent=1) + "\n")
        except StudyError:
            raise
        except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
            reason = getattr(error, "strerror", None) or error
            raise StudyError(
                f"the study folder '{path}' cannot be used ({reason}): name another one"
            ) from error

    def folder_of(self, spec: TrialSpec) -> Path:
        """Return the folder of one trial; it is named by our own hash, never by a user's text."""
        return self.path / "trials" / key_of(spec, self.identity)

    def log_of(self, spec: TrialSpec) -> Path:
        """Return the file that takes what the trial prints."""
        return self.folder_of(spec) / LOG

    def prepare(self, spec: TrialSpec) -> Path:
        """Make a trial's folder and write what the trial is."""
        folder = self.folder_of(spec)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / SPEC).exists():
            write_whole(folder / SPEC, dumps(spec.to_dict(), indent=1) + "\n")
        return folder

    def commit(self, spec: TrialSpec, trial: Trial) -> None:
        """Keep a result, unless there is one already: the first stands."""
        folder = self.prepare(spec)
        if self.result_of(spec) is None:
            write_result(folder, trial)

    def result_of(self, spec: TrialSpec) -> Trial | None:
        """Return a trial's result; ``None`` where it has to be run.

        A damaged one is set aside and told in :attr:`broken`. One that had run out of time or
        memory counts only if it had no less of it than it would have now.
        """
        folder = self.folder_of(spec)
        try:
            found = read_result(folder)
        except BrokenResultError as error:
            self.broken.append(f"{spec.label}, seed {spec.seed}: the result was damaged: {error}")
            with contextlib.suppress(OSError):
                (folder / FILE_NAME).replace(folder / f"{FILE_NAME}.broken")
            return None
        return None if found is None or _had_less(found, spec) else found

    def missing(self, specs: list[TrialSpec]) -> list[TrialSpec]:
        """Return the trials that have no result, each once, in their order.

        Raises:
            StudyError: What they train has changed since the study was opened.
        """
        if specs and loads(dumps(identity_of(specs[0]))) != self.identity:
            raise StudyError(
                f"the script, or a file that it uses, has changed while the study '{self.path}' "
                "ran: name another folder"
            )
        by_key = {key_of(spec, self.identity): spec for spec in specs}
        return [spec for spec in by_key.values() if self.result_of(spec) is None]


@contextlib.contextmanager
def opened_study(path: str | Path | None, spec: TrialSpec) -> Iterator[Study]:
    """Open a study for this process alone; without a path, one that lasts as long as the block.

    Raises:
        StudyError: Another process runs it, or the folder cannot be used.
    """
    if path is None:
        with tempfile.TemporaryDirectory(prefix="gradreach-study-") as name:
            study = Study(Path(name) / "study", spec)
            study.lasts = False
            yield study
        return
    study = Study(Path(path), spec)
    try:
        lock = WriterLock(study.path)
    except JournalError as error:
        raise StudyError(
            f"the study '{study.path}' is being run by {writer_of(study.path)}: wait for it to "
            "end, or name another folder"
        ) from error
    try:
        yield study
    finally:
        lock.release()


def _refuse_other(path: Path, wanted: dict[str, Any]) -> None:
    try:
        found = loads((path / SPEC).read_text(encoding="utf-8"))
        there = dict(found["of"])
    except (ValueError, KeyError, TypeError) as error:
        raise StudyError(
            f"'{path / SPEC}' is damaged ({error}): remove the folder or name another one"
        ) from error
    differing = [name for name, value in wanted["of"].items() if there.get(name) != value]
    if not differing:
        return
    if "target" not in differing and "files" in differing:
        what = "the script, or a file that it uses, has changed since"
    elif set(differing) <= {"versions", "native core"}:
        what = "it was made by another gradreach, or another torch"
    else:
        what = f"it differs in {', '.join(differing)}"
    raise StudyError(
        f"the folder '{path}' holds a study of something else ({what}): name another folder"
    )


def _had_less(trial: Trial, spec: TrialSpec) -> bool:
    """Whether a trial failed for a limit that is wider, or gone, now."""
    limits = {"timed-out": ("timeout", spec.timeout), "out-of-memory": ("memory", spec.memory)}
    if trial.outcome not in limits:
        return False
    name, now = limits[trial.outcome]
    had = trial.meta.get(name)
    return had is not None and (now is None or now > had)
