"""Runs a script watched: nothing of ours runs before its own ``import torch``."""

from __future__ import annotations

import os
import sys
import time
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gradreach.runs.folder import RunFolder
from gradreach.script.arming import after_import
from gradreach.script.runner import Outcome, StopScript, run_script

if TYPE_CHECKING:  # importing the session imports torch
    from gradreach.monitor.session import Session

__all__ = ["WatchedRun", "run_watched"]


@dataclass
class WatchedRun:
    """A script that ran, and what was seen of it.

    Args:
        session: The watch, or ``None`` where the script never imported torch.
        trouble: What went wrong on our side, as a traceback, or ``None``.
    """

    outcome: Outcome
    seconds: float
    session: Session | None
    trouble: str | None = None
    command: list[str] = field(default_factory=list)


def run_watched(
    script: str,
    arguments: list[str],
    folder: RunFolder,
    *,
    every: int | None = None,
    needs_lag: int | None = None,
    steps: int | None = None,
) -> WatchedRun:
    """Run a script as ``python SCRIPT ARGS…`` would, and watch its recurrent layers.

    Under ``torchrun`` only rank 0 is watched; the others run as they are.

    Raises:
        ScriptError: There is no such script.
    """
    sessions: list[Session] = []
    troubles: list[str] = []

    def arm() -> None:
        try:
            from gradreach.monitor.session import Session, SessionOptions

            session = Session(folder, SessionOptions(every, needs_lag, steps), _enough)
            session.start()
            sessions.append(session)
        except Exception:  # noqa: BLE001  never into the user's import of torch
            troubles.append(traceback.format_exc())

    if os.environ.get("RANK", "0") == "0":
        after_import("torch", arm)
    started = time.perf_counter()
    outcome = run_script(script, arguments)
    seconds = time.perf_counter() - started
    session = sessions[0] if sessions else None
    if session is not None:
        session.stop()
        if session.trouble:
            troubles.append(session.trouble)
        _explain_crash(session, outcome)
    trouble = troubles[0] if troubles else None
    return WatchedRun(outcome, seconds, session, trouble, [script, *arguments])


def _enough() -> None:
    """End the script, from where its optimizer has just made a step."""
    raise StopScript


def _explain_crash(session: Session, outcome: Outcome) -> None:
    """Say what a state carried over without detach had to do with the end of the script."""
    carried = session.watch.carried.found
    if carried is None:
        return
    from gradreach.diagnosis.rules.growing_graph import growing_graph

    told = str(outcome.error or "")
    crashed = "graph a second time" in told or "modified by an inplace operation" in told
    finding = growing_graph(
        carried.layer, carried.file, carried.line, carried.source, crashed=crashed
    )
    session.see(finding, session.watch.steps)
    session.folder.write_findings([sighting.to_dict() for sighting in session.ordered()])
    sys.stderr.flush()
