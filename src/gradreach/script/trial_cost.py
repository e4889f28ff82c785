"""How a trial is watched: by counts alone, so that the same seed gives the same record."""

from __future__ import annotations

from dataclasses import dataclass

from gradreach.monitor.cadence import FIRST, Cadence
from gradreach.monitor.cost import Cost
from gradreach.monitor.row_pace import RowPace

__all__ = ["TRIAL_COST", "TrialCost"]

GROWTH = 1.3  # from one sample to the next: 25 samples of 2,000 passes, 40 of 100,000
PROBES = 12  # of the loss along an update, each of which costs some steps
DENSE = 1000  # steps that all get a row; of later ones two of eight do


@dataclass(frozen=True)
class TrialCost(Cost):
    """A preset that looks at no clock.

    The other presets measure as often as the time allows, which differs from machine to machine
    and from run to run; what a trial found must not.
    """

    def cadence(self, every: int | None) -> Cadence:
        """Return when to sample: ever more rarely."""
        return _Geometric()

    def pace(self) -> RowPace:
        """Return when to record a row."""
        pace = RowPace(None, DENSE)
        pace.stride = 4
        return pace


TRIAL_COST = TrialCost(
    "trial", None, samples=1.0, rows=None, dense=DENSE, first=FIRST, start_seconds=1e9
)


class _Geometric(Cadence):
    """Samples the first passes, then each as far from the last as its number grows."""

    def __init__(self) -> None:
        super().__init__(every=1)
        self._at = 0
        self._probes = 0

    def due(self, number: int, spent: float = 0.0, elapsed: float = 0.0) -> bool:
        return number >= self._at

    def affords(self, spent: float, elapsed: float) -> bool:
        return False  # no sample out of turn: a loss that jumps all the time would ask for all

    def affords_more(self, seconds: float, spent: float, elapsed: float) -> bool:
        self._probes += 1
        return self._probes <= PROBES

    def took(self, number: int, seconds: float) -> None:
        self._at = number + 1 if number + 1 < self.first else int(GROWTH * number) + 8

    def __str__(self) -> str:
        return f"the first {self.first}, then each {GROWTH} times as late as the one before"
