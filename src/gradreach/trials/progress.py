"""What is seen while a study runs: a bar with the time left, or a line for each trial."""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import Any, Self, TextIO

from gradreach.records.trial import OUTCOMES, Trial
from gradreach.trials.spec import TrialSpec

__all__ = ["Bar", "Lines", "Progress", "progress_for", "time_left"]


_Name = tuple[str, int, int | None]  # treatment, seed, budget


class Progress:
    """Counts what is done; shows nothing itself.

    Work is counted in full trainings: a trial of a tenth of the steps is a tenth. A trial counts
    once, however often it is asked for: a cure's diagnosis is the first trial of its control.

    Example:
        >>> from gradreach.trials.target import ScriptTarget
        >>> spec = TrialSpec(target=ScriptTarget(path="train.py", cwd="/"))
        >>> progress = Progress()
        >>> progress.expect(2.0)
        >>> progress.kept(spec, 1.0)
        >>> progress.kept(spec, 1.0)
        >>> progress.done, progress.expected
        (1.0, 2.0)
    """

    def __init__(self) -> None:
        self.expected = self.done = self.run = 0.0
        self.outcomes: Counter[str] = Counter()
        self.running: dict[_Name, float] = {}
        self._counted: set[_Name] = set()
        self._begun: float | None = None

    def expect(self, work: float) -> None:
        """Set how much work the study is."""
        self.expected = max(work, self.done)

    def kept(self, spec: TrialSpec, work: float) -> None:
        """Count a trial whose result was there already."""
        if self._counts(spec):
            self.done += work
            self.outcomes["kept"] += 1

    def begin(self, spec: TrialSpec) -> None:
        """Hear that a trial has begun."""
        self._begun = time.monotonic() if self._begun is None else self._begun
        self.running.setdefault(_name(spec), time.monotonic())

    def end(self, spec: TrialSpec, trial: Trial, work: float) -> None:
        """Hear that a trial has ended."""
        self.running.pop(_name(spec), None)
        if self._counts(spec):
            self.done += work
            self.run += work
            self.outcomes[trial.outcome] += 1

    def say(self, text: str) -> None:
        """Show a sentence."""

    def tick(self) -> None:
        """Show how time goes by."""

    @property
    def seconds_left(self) -> float | None:
        """Seconds that the rest will take at the pace so far.

        ``None`` before the first end, and while nobody knows how much there is to do.
        """
        if self._begun is None or self.run <= 0 or self.expected <= 0:
            return None
        pace = (time.monotonic() - self._begun) / self.run
        return pace * max(self.expected - self.done, 0.0)

    def _counts(self, spec: TrialSpec) -> bool:
        """Whether a trial has not been counted yet; from now on it has."""
        name = _name(spec)
        new = name not in self._counted
        self._counted.add(name)
        return new

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop showing."""


class Lines(Progress):
    """One plain line a finished trial, for pipes and logs."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.stream = stream

    def end(self, spec: TrialSpec, trial: Trial, work: float) -> None:
        """Print the trial, how far the study is, and what is left."""
        super().end(spec, trial, work)
        short = "" if spec.budget is None else f", cut at {spec.budget:,} steps"
        share = f"{self.done / self.expected:4.0%}" if self.expected else "  ?%"
        self.say(f"{share}  {trial}{short}; {time_left(self.seconds_left)}")

    def say(self, text: str) -> None:
        """Print a sentence."""
        self.stream.write(f"{text}\n")
        self.stream.flush()


class Bar(Progress):
    """A bar on a terminal: trials that run, outcomes so far, time left."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        self._console = Console(file=stream)
        self._bar = RichProgress(
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %  {task.fields[left]}"),
            TextColumn("{task.fields[outcomes]}", markup=False),
            console=self._console,
            transient=True,
        )
        self._task: Any = None

    def tick(self) -> None:
        """Draw the bar and the trials that run."""
        if self._task is None:
            self._task = self._bar.add_task("", outcomes="", left="", total=1.0)
            self._bar.start()
        self._bar.update(
            self._task,
            completed=self.done,
            total=max(self.expected, 1e-9),
            outcomes=self._state(),
            left=time_left(self.seconds_left),
            refresh=True,
        )

    def _state(self) -> str:
        told = [
            f"{self.outcomes[name]} {name}" for name in ("kept", *OUTCOMES) if self.outcomes[name]
        ]
        now = time.monotonic()
        told += [
            f"{label} #{seed} {now - at:.0f} s" for (label, seed, _), at in self.running.items()
        ]
        return ", ".join(told)

    def say(self, text: str) -> None:
        """Print a sentence above the bar."""
        self._console.print(text, markup=False, highlight=False)

    def __exit__(self, *_: object) -> None:
        """Take the bar away."""
        if self._task is not None:
            self._bar.stop()


def progress_for(show: bool | None, stream: TextIO | None = None) -> Progress:
    """Return a bar for a terminal, lines for anything else.

    Args:
        show: ``True``: always; ``False``: never; ``None``: only on a terminal.
        stream: Where; standard error by default.
    """
    stream = sys.stderr if stream is None else stream
    terminal = bool(getattr(stream, "isatty", lambda: False)())
    if show is False or (show is None and not terminal):
        return Progress()
    return Bar(stream) if terminal else Lines(stream)


def time_left(seconds: float | None) -> str:
    """Say how long it will take.

    Example:
        >>> time_left(None), time_left(42.4), time_left(3700)
        ('time left unknown', '42 s left', '62 min left')
    """
    if seconds is None:
        return "time left unknown"
    return f"{seconds:.0f} s left" if seconds < 120 else f"{seconds / 60:.0f} min left"


def _name(spec: TrialSpec) -> _Name:
    return (spec.label, spec.seed, spec.budget)
