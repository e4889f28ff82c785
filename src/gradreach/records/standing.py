"""How one treatment stands in a comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from gradreach.records.effect import Effect

__all__ = ["Standing"]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One line of the table.

    Attributes:
        treatment: Its label; ``"control"`` is the untreated training.
        seeds: Seeds run at the full budget; 0 for a treatment that was dropped before.
        outcomes: How many of them ended how.
        median: Of the metric over the seeds, a trial that did not finish counting as the worst;
            NaN where that is the median.
        effect: Against the control on the same seeds; ``None`` for the control itself and for a
            treatment without a full run.
        met: Seeds that met the criterion; ``None`` where there is none.
        seconds: Median wall time of a full trial.
        relative_cost: Those seconds by the control's.
        gone: Codes of findings that the control had on some seed and this has on none.
        remaining: Codes that both have.
        new: Codes that only this has.
        reach: Median over the seeds, by layer.
        dropped: Step budget of the rung after which it was not followed further; ``None`` where
            it was.
        held_out: The metric was taken on data that was not trained on.
    """

    treatment: str
    seeds: int
    outcomes: Mapping[str, int] = field(default_factory=dict)
    median: float = math.nan
    effect: Effect | None = None
    met: int | None = None
    seconds: float = math.nan
    relative_cost: float = math.nan
    gone: tuple[str, ...] = ()
    remaining: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    reach: Mapping[str, float] = field(default_factory=dict)
    dropped: int | None = None
    held_out: bool = False

    @property
    def finished(self) -> int:
        """Seeds whose full trial finished."""
        return self.outcomes.get("finished", 0)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        plain = dict(vars(self), outcomes=dict(self.outcomes), reach=dict(self.reach))
        plain["effect"] = None if self.effect is None else self.effect.to_dict()
        return plain | {name: list(plain[name]) for name in ("gone", "remaining", "new")}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Undo :meth:`to_dict`."""
        effect = plain["effect"]
        rest: dict[str, Any] = {name: tuple(plain[name]) for name in ("gone", "remaining", "new")}
        rest["effect"] = None if effect is None else Effect.from_dict(effect)
        return cls(**{**plain, **rest})
