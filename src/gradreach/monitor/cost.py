"""What a watch may cost, by name."""

from __future__ import annotations

from dataclasses import dataclass

from gradreach.monitor.cadence import FIRST, SHARE, START_SECONDS, Cadence
from gradreach.monitor.row_pace import RowPace

__all__ = ["COSTS", "SCRIPT_COST", "Cost", "cost_named"]


@dataclass(frozen=True)
class Cost:
    """A preset.

    Args:
        name: How the user calls it.
        promise: Share of the user's own time that watching takes at most, in the long run;
            ``None`` where it takes what it takes.
        samples: Share up to which samples are taken, whatever else the watch has cost; it is
            less than the promise because not all of the cost can be seen from inside.
        rows: Likewise for the rows alone. dense: steps at the start that all get one.
        first: Passes sampled at the start. start_seconds: what these may take.
    """

    name: str
    promise: float | None
    samples: float
    rows: float | None
    dense: int
    first: int
    start_seconds: float

    def cadence(self, every: int | None) -> Cadence:
        """Return when to sample; ``every`` is the user's own wish."""
        if every is None and self.promise is None:
            every = 1
        return Cadence(every, self.first, share=self.samples, start_seconds=self.start_seconds)

    def pace(self) -> RowPace:
        """Return when to record a row."""
        return RowPace(self.rows, self.dense)


COSTS = {
    "economy": Cost(
        "economy", 0.01, samples=0.006, rows=0.002, dense=8, first=1, start_seconds=0.05
    ),
    "standard": Cost(
        "standard", 0.05, samples=0.04, rows=0.02, dense=128, first=FIRST, start_seconds=0.5
    ),
    "full": Cost("full", None, samples=1.0, rows=None, dense=0, first=FIRST, start_seconds=1e9),
}
# `gradreach diagnose`: 10 % are promised, and half of that leaves room for start and report.
SCRIPT_COST = Cost(
    "script", 0.10, SHARE, rows=0.02, dense=128, first=FIRST, start_seconds=START_SECONDS
)


def cost_named(name: str) -> Cost:
    """Return a preset.

    Raises:
        ValueError: There is none of that name.

    Example:
        >>> cost_named("economy").promise
        0.01
    """
    if name not in COSTS:
        raise ValueError(
            f"watch(): argument 'cost' must be one of {', '.join(COSTS)}; got {name!r}"
        )
    return COSTS[name]
