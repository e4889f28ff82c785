"""Runs a script watched: nothing of ours runs before its own ``import torch``."""

from __future__ import annotations

import os
import time
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gradreach.runs.folder import RunFolder
from gradreach.script.arming import after_import
from gradreach.script.crash import explain_crash
from gradreach.script.runner import Outcome, StopScript, run_script

if TYPE_CHECKING:  # importing the session imports torch
    from gradreach.monitor.session import Session

__all__ = ["WatchedRun", "run_counted", "run_watched"]


@dataclass
class WatchedRun:
    """A script that ran, and what was seen of it.

    Args:
        seconds: Wall time of the script, our own work in it included.
        session: The watch, or ``None`` where the script never imported torch.
        trouble: What went wrong on our side, as a traceback, or ``None``.
        own_seconds: What the script took of it.
        forked: This is a child that the script forked and that came back from it: what there is
            to say is said by its parent.
    """

    outcome: Outcome
    seconds: float
    session: Session | None
    trouble: str | None = None
    command: list[str] = field(default_factory=list)
    own_seconds: float = 0.0
    forked: bool = False


def run_watched(
    script: str,
    arguments: list[str],
    folder: RunFolder,
    *,
    every: int | None = None,
    needs_lag: int | None = None,
    steps: int | None = None,
    inputs: bool = False,
) -> WatchedRun:
    """Run a script as ``python SCRIPT ARGS…`` would, and watch its recurrent layers.

    Raises:
        ScriptError: There is no such script.
    """
    sessions: list[Session] = []
    troubles: list[str] = []

    def arm() -> None:
        begun = time.perf_counter()
        try:
            from gradreach.monitor.session import Session
            from gradreach.monitor.session_options import SessionOptions
            from gradreach.runs.journal import JournalWriter

            options = SessionOptions(every, needs_lag, steps, inputs=inputs, says_short=False)
            journal = JournalWriter(folder.path, {"needs_lag": needs_lag, "cost": "script"})
            session = Session(folder, options, _enough, sinks=[journal])
            session.start()
            session.watch.guard.aside += time.perf_counter() - begun
            sessions.append(session)
        except Exception:  # noqa: BLE001  never into the user's import of torch
            troubles.append(traceback.format_exc())

    process = os.getpid()
    after_import("torch", arm)
    started = time.perf_counter()
    outcome = run_script(script, arguments)
    seconds = time.perf_counter() - started
    session = sessions[0] if sessions else None
    if os.getpid() != process:
        return WatchedRun(outcome, seconds, None, forked=True)
    if session is not None:
        try:
            session.stop()
            explain_crash(session, outcome)
        except Exception:  # noqa: BLE001  the script has ended well, and its exit code stands
            troubles.append(traceback.format_exc())
        troubles += [] if session.trouble is None else [session.trouble]
    trouble = troubles[0] if troubles else None
    own = seconds - (0.0 if session is None else session.watch.seconds)
    return WatchedRun(outcome, seconds, session, trouble, [script, *arguments], own)


def run_counted(script: str, arguments: list[str], steps: int | None) -> Outcome:
    """Run a script unwatched, as a further rank of a distributed run; only count its steps.

    All ranks must stop after the same step, or one would wait for the others for ever.
    """

    def count() -> None:
        from gradreach.monitor.steps import StepCount

        StepCount(lambda done: _enough() if steps and done >= steps else None)

    if steps is not None:
        after_import("torch", count)
    return run_script(script, arguments)


def _enough() -> None:
    """End the script, from where its optimizer has just made a step."""
    raise StopScript
