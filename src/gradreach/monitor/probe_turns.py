"""Decides which steps are probed: one after each sample, when there is time for it."""

from __future__ import annotations

from collections.abc import Callable

from gradreach.monitor.cadence import Cadence
from gradreach.monitor.guard import Guard
from gradreach.monitor.line_probes import LineProbes
from gradreach.records.line_probe import LineProbe

__all__ = ["ProbeTurns"]

GUESS = 8.0  # times the user's own step: what a probe takes, until one has been made
VAIN = 4  # probes in a row that fail for a reason of the model's: no further one is tried


class ProbeTurns:
    """Arms the probe of the loss along an update.

    Args:
        probes: What is armed; its ``on_probe`` is to be :meth:`made`.
        elapsed: Returns the seconds since the watch began.
        on_probe: Called with each probe that was made, or that failed.

    Attributes:
        seconds: What probes have taken so far.
    """

    def __init__(
        self,
        guard: Guard,
        cadence: Cadence,
        elapsed: Callable[[], float],
        on_probe: Callable[[LineProbe], None],
    ) -> None:
        self.guard, self.cadence, self.elapsed, self.on_probe = guard, cadence, elapsed, on_probe
        self.probes: LineProbes | None = None
        self.seconds = 0.0
        self.owed = False
        self._cost: float | None = None
        self._armed_at = 0.0
        self._vain = 0

    @property
    def hopeless(self) -> bool:
        """Whether no further probe is tried."""
        return self._vain >= VAIN

    def sampled(self) -> None:
        """A pass was sampled: a probe is to follow."""
        self.owed = True

    def stepped(self, steps: int) -> bool:
        """A step was made; whether the next one, of this number, will be probed."""
        if not self.owed or self.probes is None or self.probes.armed or self.hopeless:
            return False
        spent, elapsed = self.guard.seconds, self.elapsed()
        cost = self._cost
        if cost is None:
            cost = GUESS * (elapsed - spent) / max(steps, 1)
        if not self.cadence.affords_more(cost, spent, elapsed):
            return False
        self.owed, self._armed_at = False, spent
        self.probes.arm(steps)
        return True

    def made(self, probe: LineProbe) -> None:
        """A probe has been made, or has failed."""
        seconds = self.guard.seconds - self._armed_at
        self.seconds += seconds
        if not probe.reason:
            self._cost = self.cadence.beside = seconds
        self._vain = self._vain + 1 if probe.reason else 0
        self.on_probe(probe)
