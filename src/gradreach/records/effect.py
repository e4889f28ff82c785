"""How much a treatment changed the metric, against the untreated control of the same seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

__all__ = ["Effect", "Scale"]

Scale = Literal["ratio", "difference"]
SCALES: tuple[Scale, ...] = get_args(Scale)


@dataclass(frozen=True, kw_only=True)
class Effect:
    """The paired effect of one treatment, with an interval.

    Attributes:
        scale: ``"ratio"``: the metric with the treatment over that without, the geometric mean
            over the seeds. ``"difference"``: with minus without, the mean over the seeds.
        estimate: The effect. low: Where the interval begins. high: Where it ends.
        confidence: Of the interval, over all treatments that were tried at once.
        treatments: How many were tried, among which the confidence is shared.
        pairs: Seeds that were run with and without.
        wins: Pairs in which the treatment was better.
        failed: Seeds on which the treatment did not finish.
        control_failed: Seeds on which the control did not finish.
        chance: Probability that signs alone, drawn by tossing a coin for each seed, would look as
            good as this or better (exact, for one treatment, without any assumption).
        better: The whole interval lies beyond the margin on the good side.

    Example:
        >>> print(Effect(scale="ratio", estimate=0.1, low=0.05, high=0.2, confidence=0.95,
        ...              treatments=2, pairs=3, wins=3, chance=0.125, better=True))
        ×0.1 [0.05, 0.2]
    """

    scale: Scale
    estimate: float
    low: float
    high: float
    confidence: float
    treatments: int
    pairs: int
    wins: int
    failed: int = 0
    control_failed: int = 0
    chance: float = 1.0
    better: bool = False

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise ValueError(
                f"Effect(): argument 'scale' must be one of {', '.join(SCALES)}; got {self.scale!r}"
            )

    def __str__(self) -> str:
        head, sign = ("×", "") if self.scale == "ratio" else ("", "+")

        def told(value: float) -> str:
            return "?" if math.isnan(value) else f"{value:{sign}.3g}"

        return f"{head}{told(self.estimate)} [{told(self.low)}, {told(self.high)}]"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return dict(vars(self))

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Undo :meth:`to_dict`."""
        return cls(**plain)
