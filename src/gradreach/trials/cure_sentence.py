"""What a study of a script came to, in one sentence."""

from __future__ import annotations

import math

from gradreach.records.comparison import Comparison
from gradreach.records.effect import Effect
from gradreach.records.standing import Standing
from gradreach.records.trial import Trial
from gradreach.trials.cure_verdict import Judged

__all__ = ["cure_sentence"]


def cure_sentence(judged: Judged, diagnosis: Trial, comparison: Comparison | None) -> str:
    """Say what cures it, by how much, how sure, at what cost; or that nothing does.

    Args:
        judged: The verdict. diagnosis: The untreated run. comparison: The study, if there is one.

    Example:
        >>> healthy = Trial(treatment="control", seed=0, outcome="finished", metric=0.1)
        >>> cure_sentence(Judged("healthy"), healthy, None)
        'No treatment is needed: nothing was found wrong with the gradient through time.'
    """
    if judged.verdict == "unmeasured":
        return f"The script could not be measured as it is: {_why(diagnosis)}."
    if judged.verdict == "healthy":
        return _healthy(diagnosis)
    if comparison is None:
        return (
            f"Nothing was tried: {', '.join(diagnosis.codes) or 'a target missed'} was found, but "
            "no treatment there is fits this script."
        )
    if judged.winner is None:
        return _nothing(comparison)
    winner = comparison[judged.winner]
    parts = [_headline(judged, winner, comparison), _sure(winner, comparison)]
    if math.isfinite(winner.relative_cost):
        parts.append(f"a run takes {winner.relative_cost:.2g} times as long")
    return "; ".join(parts) + "."


def _why(diagnosis: Trial) -> str:
    return diagnosis.message or f"its outcome is {diagnosis.outcome}"


def _healthy(diagnosis: Trial) -> str:
    if diagnosis.codes:
        return (
            f"No treatment is needed: the target is met on every seed, although "
            f"{', '.join(diagnosis.codes)} was found."
        )
    return "No treatment is needed: nothing was found wrong with the gradient through time."


def _nothing(comparison: Comparison) -> str:
    tried = list(comparison.standings[1:])
    full = [each for each in tried if each.effect is not None]
    many = f"none of {len(tried)} treatments" if len(tried) > 1 else tried[0].treatment
    told = (
        f"Nothing helped: {many} {'was' if len(tried) > 1 else 'was not'} shown to make the "
        f"{comparison.metric} better than without treatment"
    )
    if full and full[0].effect is not None and not math.isnan(full[0].effect.estimate):
        told += f" (the best, {full[0].treatment}: {_effect(full[0].effect)})"
    return told + "."


def _headline(judged: Judged, winner: Standing, comparison: Comparison) -> str:
    verb = "cures it" if judged.verdict == "cured" else "helps, but is not shown to be a cure"
    control = comparison.control
    what = "held-out " if winner.held_out and comparison.metric == "loss" else ""
    before = (
        f"instead of {control.median:.3g}"
        if math.isfinite(control.median)
        else f"where the script as it is ends {_ends(control)}"
    )
    return (
        f"{winner.treatment} {verb}: {what}{comparison.metric} {winner.median:.3g} {before} "
        f"(median of {winner.seeds} seeds)"
    )


def _ends(control: Standing) -> str:
    ends = [f"{name} on {count}" for name, count in control.outcomes.items() if count]
    return f"{', '.join(ends)} of {control.seeds} seeds"


def _sure(winner: Standing, comparison: Comparison) -> str:
    effect = winner.effect
    assert effect is not None, "a winner was compared"
    parts = [f"better on {effect.wins} of {effect.pairs} seeds"]
    if not math.isnan(effect.estimate):
        parts.append(_effect(effect))
    if winner.met is not None:
        parts.append(
            f"the target {comparison.criterion:g} is met on {winner.met} of {winner.seeds}, "
            f"without it on {comparison.control.met}"
        )
    return ", ".join(parts)


def _effect(effect: Effect) -> str:
    return f"{effect}, {effect.confidence:.0%} interval over {effect.treatments} treatments"
