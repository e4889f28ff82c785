"""The control and every treatment over seeds, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from gradreach.records.plain import check_schema
from gradreach.records.standing import Standing
from gradreach.records.trial import CONTROL, Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["DIRECTIONS", "Comparison", "Direction"]

SCHEMA_VERSION = 1

Direction = Literal["minimize", "maximize"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Comparison:
    """What ``gradreach.compare`` found.

    Attributes:
        metric: Name of the number by which the treatments are ranked.
        direction: ``"minimize"`` or ``"maximize"``.
        criterion: The metric at which the task counts as learned, if one was given.
        trials: Every trial, also those that did not finish and those of a smaller budget.
        standings: One a treatment: the control first, then the best first.
        winner: Label of the treatment that helped most; ``None`` where nothing was shown to help.
        sentence: What helped, by how much, how sure, at what cost; or that nothing did.
        meta: Seeds, threads, cost, how it was run, as plain data.
    """

    metric: str
    direction: Direction
    criterion: float | None
    trials: tuple[Trial, ...]
    standings: tuple[Standing, ...]
    winner: str | None
    sentence: str
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            raise ValueError(
                f"Comparison(): argument 'direction' must be one of {', '.join(DIRECTIONS)}; got "
                f"{self.direction!r}"
            )

    def __getitem__(self, treatment: str) -> Standing:
        """Return how one treatment stands."""
        found = next((each for each in self.standings if each.treatment == treatment), None)
        if found is None:
            there = ", ".join(each.treatment for each in self.standings)
            raise KeyError(f"no treatment {treatment!r}; there is {there}")
        return found

    @property
    def control(self) -> Standing:
        """How the untreated training stands."""
        return self[CONTROL]

    def full_trials(self, treatment: str) -> tuple[Trial, ...]:
        """Return the trials of one treatment at the full budget, by seed."""
        budget = self.meta.get("budget")
        found = (t for t in self.trials if t.treatment == treatment and t.budget == budget)
        return tuple(sorted(found, key=lambda trial: trial.seed))

    def results(self) -> dict[str, Any]:
        """Return all that was found and no clock had a part in.

        Two runs of one study, with however many jobs and interruptions, have equal results.
        """
        standings = [standing.to_dict() for standing in self.standings]
        for each in standings:
            for clocked in ("seconds", "relative_cost"):
                del each[clocked]
        kept = ("treatment", "seed", "budget", "outcome", "metric", "held_out", "steps", "reach")
        trials = []
        for trial in self.trials:
            plain = trial.to_dict()
            curves = {name: plain[name]["values"] for name in ("steps_of_curve", "curve")}
            codes = [finding["code"] for finding in plain["findings"]]
            # As text: a NaN is not equal to itself, and here it is the same result.
            trials.append(repr([plain[name] for name in kept] + [curves, codes]))
        return {"standings": repr(standings), "winner": self.winner, "trials": sorted(trials)}

    def __str__(self) -> str:
        from gradreach.records.comparison_text import comparison_text

        return comparison_text(self)

    @property
    def log_scale(self) -> bool:
        """Whether its effects are ratios, so that a picture shows factors as distances."""
        effects = [each.effect for each in self.standings if each.effect is not None]
        return bool(effects) and all(effect.scale == "ratio" for effect in effects)

    def plot(self) -> Figure:
        """Return a figure: the metric of every seed as a dot, joined to its control's.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from gradreach.records.comparison_figure import comparison_figure

        return comparison_figure(self)

    def _repr_html_(self) -> str:
        from gradreach.records.comparison_page import comparison_fragment

        return comparison_fragment(self)

    def __repr__(self) -> str:
        return f"<Comparison of {len(self.standings)} treatments, winner: {self.winner}>"

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain data."""
        return {
            "record": "Comparison",
            "schema_version": SCHEMA_VERSION,
            "metric": self.metric,
            "direction": self.direction,
            "criterion": self.criterion,
            "trials": [trial.to_dict() for trial in self.trials],
            "standings": [standing.to_dict() for standing in self.standings],
            "winner": self.winner,
            "sentence": self.sentence,
            "meta": dict(self.meta),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Undo :meth:`to_dict`.

        Raises:
            SchemaError: The data is of another record or schema version.
        """
        check_schema(plain, "Comparison", SCHEMA_VERSION)
        same = ("metric", "direction", "criterion", "winner", "sentence")
        return cls(
            **{name: plain[name] for name in same},
            trials=tuple(Trial.from_dict(trial) for trial in plain["trials"]),
            standings=tuple(Standing.from_dict(each) for each in plain["standings"]),
            meta=dict(plain["meta"]),
        )
