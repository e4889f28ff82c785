"""From trials to the lines of the table, the best first."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence

from gradreach.records.comparison import Direction
from gradreach.records.effect import Effect
from gradreach.records.standing import Standing
from gradreach.records.trial import CONTROL, Trial
from gradreach.trials.effect import MARGIN, effect_of, scale_of

__all__ = ["meets", "standings_of"]


def standings_of(
    full: Mapping[str, Sequence[Trial]],
    dropped: Mapping[str, int],
    direction: Direction,
    criterion: float | None = None,
    margin: float = MARGIN,
) -> tuple[Standing, ...]:
    """Return the control's standing, then those of the treatments, the best first.

    Args:
        full: Trials at the full budget by treatment, the control's among them.
        dropped: Treatments without one, with the budget after which they were dropped.
        direction: Of the metric. criterion: What counts as learned.
        margin: See :func:`~gradreach.trials.effect.effect_of`.
    """
    control = {trial.seed: trial for trial in full[CONTROL]}
    scale = scale_of([t.metric for trials in full.values() for t in trials], direction)
    tried = len(full) - 1 + len(dropped)
    found = []
    for label, trials in full.items():
        paired = [trial for trial in trials if trial.seed in control]
        effect = None
        if label != CONTROL and paired:
            effect = effect_of(
                [control[trial.seed].metric for trial in paired],
                [trial.metric for trial in paired],
                direction, scale=scale, treatments=tried, margin=margin,
            )  # fmt: skip
        found.append(_standing(label, trials, full[CONTROL], effect, direction, criterion))
    sign = 1.0 if direction == "minimize" else -1.0
    first, rest = found[0], found[1:]
    rest.sort(key=lambda each: _order(each, sign))
    late = sorted(dropped, key=lambda label: -dropped[label])
    not_followed = (Standing(treatment=each, seeds=0, dropped=dropped[each]) for each in late)
    return (first, *rest, *not_followed)


def meets(value: float, criterion: float, direction: Direction) -> bool:
    """Whether a metric is as good as the criterion; NaN never is.

    Example:
        >>> meets(0.01, 0.05, "minimize"), meets(0.9, 0.95, "maximize")
        (True, False)
    """
    return value <= criterion if direction == "minimize" else value >= criterion


def _standing(
    label: str,
    trials: Sequence[Trial],
    control: Sequence[Trial],
    effect: Effect | None,
    direction: Direction,
    criterion: float | None,
) -> Standing:
    had = _codes(control)
    has = _codes(trials)
    seconds = statistics.median([trial.seconds for trial in trials])
    by_control = statistics.median([trial.seconds for trial in control])
    met = None
    if criterion is not None:
        met = sum(meets(trial.metric, criterion, direction) for trial in trials)
    treated = label != CONTROL
    return Standing(
        treatment=label,
        seeds=len(trials),
        outcomes=dict(Counter(trial.outcome for trial in trials)),
        median=_median([trial.metric for trial in trials], direction),
        effect=effect,
        met=met,
        seconds=seconds,
        relative_cost=seconds / by_control if by_control > 0 else math.nan,
        gone=tuple(code for code in had if code not in has) if treated else (),
        remaining=tuple(code for code in has if code in had),
        new=tuple(code for code in has if code not in had),
        reach=_reach(trials),
        held_out=bool(trials) and all(trial.held_out for trial in trials if trial.finished),
    )


def _codes(trials: Sequence[Trial]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(code for trial in trials for code in trial.codes))


def _median(metrics: Sequence[float], direction: Direction) -> float:
    """Return the median, failures being the worst; NaN where the median is one."""
    worst = math.inf if direction == "minimize" else -math.inf
    found = statistics.median_high if direction == "minimize" else statistics.median_low
    values = [worst if math.isnan(value) else value for value in metrics]
    # Between two values of an even number the mean, unless one of them is a failure.
    middle = statistics.median(values) if all(map(math.isfinite, values)) else found(values)
    return middle if math.isfinite(middle) else math.nan


def _reach(trials: Sequence[Trial]) -> dict[str, float]:
    layers = dict.fromkeys(name for trial in trials for name in trial.reach)
    return {
        name: statistics.median([t.reach[name] for t in trials if name in t.reach])
        for name in layers
    }


def _order(standing: Standing, sign: float) -> tuple[float, float, str]:
    failed = standing.seeds - standing.finished
    value = math.inf if math.isnan(standing.median) else sign * standing.median
    return (value, failed, standing.treatment)
