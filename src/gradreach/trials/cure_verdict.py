"""When a treatment that did better is called a cure, and when it is not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from gradreach.records.comparison import Comparison
from gradreach.records.standing import Standing
from gradreach.records.trial import Trial
from gradreach.trials.effect import MARGIN

__all__ = ["Judged", "Verdict", "judged"]

Verdict = Literal["healthy", "cured", "better", "nothing", "unmeasured"]

REACH = 1.25  # times the control's: by less than a quarter a reach differs between two seeds


@dataclass(frozen=True)
class Judged:
    """The verdict on a study.

    Attributes:
        winner: Of ``"cured"`` and ``"better"``. remarks: What keeps it from being a cure, or
            what else is to be known, in sentences.
    """

    verdict: Verdict
    winner: str | None = None
    remarks: tuple[str, ...] = ()


def judged(comparison: Comparison, diagnosis: Trial) -> Judged:
    """Judge a study.

    With a criterion: cured by what meets it on every seed while the control meets it on none, or
    meets it on some and is worse beyond the interval. Without one: cured by what is better than
    the control on every seed and by more than the margin over the whole interval, on data that
    was not trained on, and in which the problem that was treated is gone or less.

    Args:
        comparison: The study. diagnosis: Its untreated run that was diagnosed.
    """
    control, treated = comparison.control, [s for s in comparison.standings[1:] if s.seeds]
    if comparison.criterion is not None:
        if control.met == control.seeds:
            return Judged("healthy")
        cures = [each for each in treated if each.met == each.seeds >= 2]
        sure = [each for each in cures if not control.met or _sure(each)]
        if sure:
            return Judged("cured", sure[0].treatment, tuple(_context(sure[0], control)))
    winning = [each for each in treated if _ahead(each, comparison)]
    if not winning:
        return Judged("nothing")
    for each in winning:
        if comparison.criterion is None and not list(_missing(each, comparison, diagnosis)):
            return Judged("cured", each.treatment, tuple(_context(each, control)))
    best = winning[0]
    return Judged("better", best.treatment, tuple(_missing(best, comparison, diagnosis)))


def _sure(standing: Standing) -> bool:
    return standing.effect is not None and standing.effect.better


def _ahead(standing: Standing, comparison: Comparison) -> bool:
    """Whether a treatment did better on every seed, by more than the margin."""
    effect = standing.effect
    if effect is None or effect.wins < max(effect.pairs, 2) or effect.failed:
        return False
    if math.isnan(effect.estimate):  # no control finished
        return all(map(_fell, comparison.full_trials(standing.treatment)))
    if effect.scale == "ratio":
        return effect.estimate < 1 - MARGIN
    least = MARGIN * abs(comparison.control.median)
    sign = -1.0 if comparison.direction == "minimize" else 1.0
    return bool(sign * effect.estimate > least)


def _fell(trial: Trial) -> bool:
    """Whether a training ended elsewhere than it began: to end finite is not enough."""
    return len(trial.curve) > 1 and trial.metric < (1 - MARGIN) * float(trial.curve[0])


def _missing(standing: Standing, comparison: Comparison, diagnosis: Trial) -> Iterator[str]:
    """Yield what a treatment that did better lacks to be called a cure."""
    if comparison.criterion is not None:
        yield (
            f"It meets the target {comparison.criterion:g} on {standing.met} of "
            f"{standing.seeds} seeds only."
        )
    if not _sure(standing):
        yield (
            f"Over {standing.seeds} seeds its interval does not exclude that it is chance: run "
            "the same command with more --seeds; finished trials are kept."
        )
    trials = [*comparison.full_trials("control"), *comparison.full_trials(standing.treatment)]
    if not all(trial.held_out for trial in trials if trial.finished):
        yield (
            "The loss was taken on data that was trained on again and again: it may only be known "
            "by heart better. Name a number on other data by --metric or gradreach.log, or a "
            "--target."
        )
    if len({trial.meta.get("measured") for trial in trials if trial.finished}) > 1:
        yield "Not all runs came far enough to be measured in the same way."
    if not _relieved(standing, comparison.control, diagnosis):
        yield "What was found wrong is as wrong with it as without: something else made it better."


def _relieved(standing: Standing, control: Standing, diagnosis: Trial) -> bool:
    """Whether a finding that asked for treatment is gone, or its reach has grown."""
    if not diagnosis.codes or standing.gone:
        return True
    if not control.finished:
        return True  # that it finishes at all is the relief
    grown = [
        far >= REACH * control.reach[name]
        for name, far in standing.reach.items()
        if control.reach.get(name)
    ]
    return any(grown)


def _context(standing: Standing, control: Standing) -> Iterator[str]:
    """Yield what is to be known of a cure beside its numbers."""
    if standing.remaining:
        yield f"Still found with it: {', '.join(standing.remaining)}."
    if standing.new:
        yield f"Found with it and not before: {', '.join(standing.new)}."
    if control.met:
        yield f"The untreated script meets the target on {control.met} of {control.seeds} seeds."
