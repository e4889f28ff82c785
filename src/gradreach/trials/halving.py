"""Successive halving: short trials of many treatments, the full budget for few."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gradreach.records.comparison import Direction
from gradreach.records.trial import Trial
from gradreach.trials.effect import MARGIN

__all__ = ["EXTRA", "FINALISTS", "Rung", "kept_at", "rungs_of"]

FINALISTS = 2
EXTRA = 0.5
"""What all short trials together may cost, as a share of all full ones: the control's and the
finalists' over every seed."""
# A rung is worth more with more of the training seen than with more seeds: what only begins to
# learn after a fifth of it would be dropped by any number of seeds.
ENOUGH = 0.25
MOST = 0.5  # of the full budget: beyond, a short trial is hardly shorter than a full one


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One round of short trials.

    Attributes:
        budget: Optimizer steps of each. seeds: How many of the seeds are run. kept: Treatments
            that go on.
    """

    budget: int
    seeds: int
    kept: int


def rungs_of(treatments: int, seeds: int, steps: int, finalists: int = FINALISTS) -> list[Rung]:
    """Plan the rounds so that the whole study keeps within its cost.

    With ``F`` finalists and ``S`` seeds, the full runs are ``(F + 1) × S``; the rungs together
    cost no more than half of that, counted in optimizer steps, so that the plan is the same on
    every machine. Each rung keeps the better half, and has an equal share of the cost.

    Args:
        treatments: How many there are, the control not counted. seeds: Of each full run.
        steps: Optimizer steps of a full run. finalists: Treatments that get the full budget.

    Returns:
        No rung where every treatment can have the full budget.

    Reference:
        Jamieson & Talwalkar (2016), algorithm 1 (halving, an equal share for each round).

    Example:
        >>> for rung in rungs_of(8, seeds=3, steps=1000):
        ...     print(rung)
        Rung(budget=281, seeds=1, kept=4)
        Rung(budget=281, seeds=2, kept=2)
    """
    if treatments <= finalists:
        return []
    rounds = math.ceil(math.log2(treatments / finalists))
    share = EXTRA * (finalists + 1) * seeds * steps / rounds
    found = []
    for _ in range(rounds):
        kept = max(finalists, math.ceil(treatments / 2))
        many = int(share / (treatments * ENOUGH * steps))
        used = min(seeds, max(1, many))
        budget = max(1, min(int(share / (treatments * used)), int(MOST * steps)))
        found.append(Rung(budget=budget, seeds=used, kept=kept))
        treatments = kept
    return found


def kept_at(
    trials: Mapping[str, Sequence[Trial]],
    control: Sequence[Trial],
    direction: Direction,
    kept: int,
    margin: float = MARGIN,
) -> list[str]:
    """Return the treatments that go on, in the order in which they were given.

    Places are given in turn to the best by the metric and to the best by what was measured of
    the gradient: fewest findings left, then the longest reach. A remedy that lets the gradient
    through shows there first, while the loss still sits on its plateau.

    Args:
        trials: Of this rung, by treatment. control: The control's trials, with their curves.
        direction: Of the metric. kept: How many go on.
        margin: Share of the control's metric within which a treatment has not left its plateau.
    """
    contenders = [
        _contender(place, label, found, control, direction, margin)
        for place, (label, found) in enumerate(trials.items())
    ]
    rankings = [sorted(contenders, key=_by_metric), sorted(contenders, key=_by_gradient)]
    chosen: list[_Contender] = []
    while len(chosen) < min(kept, len(contenders)):
        ranking = rankings[len(chosen) % 2]
        chosen.append(next(each for each in ranking if each not in chosen))
    return [each.label for each in sorted(chosen, key=lambda each: each.place)]


@dataclass(frozen=True)
class _Contender:
    """What a rung showed of one treatment; of every number, less is better."""

    place: int
    label: str
    failed: int
    plateau: bool
    value: float
    findings: float
    blindness: float


def _contender(
    place: int,
    label: str,
    trials: Sequence[Trial],
    control: Sequence[Trial],
    direction: Direction,
    margin: float,
) -> _Contender:
    sign = 1.0 if direction == "minimize" else -1.0
    done = [trial for trial in trials if trial.finished]
    value = statistics.fmean([sign * t.metric for t in done]) if done else math.inf
    known = [trial for trial in done if trial.reach]
    return _Contender(
        place=place,
        label=label,
        failed=len(trials) - len(done),
        plateau=value > _level(trials, control, sign, margin),
        value=value,
        findings=statistics.fmean([len(t.codes) for t in done]) if done else math.inf,
        # The layer that sees least: a chain of layers is as blind as the blindest.
        blindness=-statistics.fmean([min(t.reach.values()) for t in known]) if known else math.inf,
    )


def _level(trials: Sequence[Trial], control: Sequence[Trial], sign: float, margin: float) -> float:
    """Return what the control had reached after as many steps, less the margin."""
    steps = {trial.seed: trial.steps for trial in trials}
    had = [each.at(steps[each.seed]) for each in control if each.seed in steps]
    had = [sign * value for value in had if math.isfinite(value)]
    if not had:
        return math.inf  # nothing to compare with: nobody is on a plateau
    level = statistics.fmean(had)
    return level - margin * abs(level)


def _by_metric(each: _Contender) -> tuple[float, ...]:
    if each.plateau:  # differences there are noise
        return (each.failed, 1, each.findings, each.blindness, each.value, each.place)
    return (each.failed, 0, each.value, each.findings, each.blindness, each.place)


def _by_gradient(each: _Contender) -> tuple[float, ...]:
    return (each.failed, each.findings, each.blindness, each.value, each.place)
