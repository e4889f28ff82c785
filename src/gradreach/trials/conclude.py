"""From the end of a process to the outcome of a trial."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from gradreach.records.trial import Outcome, Trial
from gradreach.trials.spec import TrialSpec
from gradreach.trials.worker import Ended

__all__ = ["ATTEMPTS", "concluded", "failed_trial"]

ATTEMPTS = 5
"""How often a trial is begun that is ended from outside each time."""

# Sent from outside: to make room, at the end of a job, by a person. Any other signal arises from
# what the process itself did.
FROM_OUTSIDE = {-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP}
TAIL = 65536
LAST_LINE = re.compile(r"^(?:[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Warning)\b.*)$")
NO_MEMORY = ("MemoryError", "bad_alloc", "not enough memory", "can't allocate memory")


def concluded(spec: TrialSpec, ended: Ended, log: Path, attempt: int) -> Trial | None:
    """Return the trial of a process that left no result; ``None`` where it is to be run again.

    Args:
        spec: What it ran. ended: How. log: What it printed. attempt: Which one it was, from 1.
    """
    if ended.timed_out:
        told = f"it was ended after {spec.timeout:g} s"
        return failed_trial(spec, "timed-out", told, ended.seconds)
    if ended.for_memory:
        told = "the system ended it for lack of memory"
        return failed_trial(spec, "out-of-memory", told, ended.seconds)
    if ended.code in FROM_OUTSIDE:
        if attempt < ATTEMPTS:
            return None
        name = signal.Signals(-ended.code).name
        outcome: Outcome = "out-of-memory" if ended.code == -signal.SIGKILL else "crashed"
        told = f"it was ended {attempt} times by {name}, as happens when memory runs out"
        return failed_trial(spec, outcome, told, ended.seconds)
    last = _last_line(log)
    lacking = any(words in last for words in NO_MEMORY)
    how = _way_of_ending(ended.code)
    told = last if last and ended.code >= 0 else how + (f"; last words: {last}" if last else "")
    return failed_trial(spec, "out-of-memory" if lacking else "crashed", told, ended.seconds)


def failed_trial(spec: TrialSpec, outcome: Outcome, message: str, seconds: float) -> Trial:
    """Return the record of a trial that has no result of its own."""
    return Trial(
        treatment=spec.label,
        seed=spec.seed,
        budget=spec.budget,
        outcome=outcome,
        seconds=seconds,
        message=message,
        meta={"threads": spec.threads, "timeout": spec.timeout, "memory": spec.memory},
    )


def _way_of_ending(code: int) -> str:
    if code < 0:
        try:
            return f"its process was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"its process was ended by signal {-code}"
    return f"its process ended with exit code {code} and left no result"


def _last_line(log: Path) -> str:
    """Return the last line of a traceback in the log, or of what the C++ runtime said."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        if LAST_LINE.match(line) or "bad_alloc" in line:
            return line.strip()[:300]
    return ""
