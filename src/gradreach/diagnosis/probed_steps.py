"""What the losses along some updates say about the size of the steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradreach.diagnosis.finite import median
from gradreach.records import History, LineProbe

__all__ = [
    "LEAST_PROBES",
    "ProbedSteps",
    "falls_short",
    "other_rate",
    "overshoots",
    "probed_steps",
    "unverified",
]

LEAST_PROBES = 3  # the least of which more than half can differ from one odd batch

TRUSTED = 0.5  # mismatch of the replay's slope beyond which the batch was another
WORSE = 0.05  # of the loss; docs/findings/learning-rate-too-high.md


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbedSteps:
    """How many of the probed steps were too long, and how many too short.

    Args:
        count: Probes that can be trusted. late: those in the last half of the steps.
        over: Steps that raised the loss of their own batch, where a tenth of them or less was
            best. early_over: those among the first ``early`` probes,
            of which early_rise is the largest ratio of a loss after the step to that before it.
        late_up: Late steps that raised the loss of their own batch at all.
        short: Late steps of which ten times as much or more was best.
        best: Median over all probes of the best multiple. late_best: over the late ones.
        gain: Median over the late probes of what that multiple would have taken off the loss of
            the batch, relative to it. fall: of what the step itself took.
    """

    count: int
    late: int
    over: int
    early: int
    early_over: int
    early_rise: float
    late_over: int
    late_up: int
    short: int
    best: float
    late_best: float
    gain: float
    fall: float


def probed_steps(history: History) -> ProbedSteps:
    """Count the verdicts of the probes of a training.

    Example:
        >>> scales = np.array([0.0, 0.1, 1.0, 10.0])
        >>> probes = tuple(LineProbe(step=n, scales=scales, losses=np.array([1.0, 0.9, 7.0, 90.0]),
        ...                          slope=-1.2, mismatch=0.0) for n in range(4))
        >>> told = probed_steps(History(rows={}, probes=probes))
        >>> told.count, told.over, told.best
        (4, 4, 0.1)
    """
    probes = [probe for probe in history.probes if _trusted(probe)]
    last = max((probe.step for probe in probes), default=0)
    late = [probe for probe in probes if 2 * probe.step >= last]
    early = probes[:LEAST_PROBES]
    return ProbedSteps(
        count=len(probes),
        late=len(late),
        over=sum(map(overshoots, probes)),
        early=len(early),
        early_over=sum(map(overshoots, early)),
        early_rise=max((_rise(probe) for probe in early if overshoots(probe)), default=0.0),
        late_over=sum(map(overshoots, late)),
        late_up=sum(not _fall(probe) > 0 for probe in late),
        short=sum(map(falls_short, late)),
        best=median(np.array([probe.best_scale for probe in probes])),
        late_best=median(np.array([probe.best_scale for probe in late])),
        gain=median(np.array([_gain(probe) for probe in late])),
        fall=median(np.array([_fall(probe) for probe in late])),
    )


def unverified(history: History) -> str:
    """Say why a verdict on the learning rate has not been verified.

    Example:
        >>> unverified(History(rows={}))
        'unverified: no loss along an update was recorded'
    """
    count = probed_steps(history).count
    if not count:
        return "unverified: no loss along an update was recorded"
    return f"unverified: {count} losses along updates were recorded, {LEAST_PROBES} are needed"


def other_rate(change: str) -> str:
    """Return the experiment that would refute a verdict on the learning rate.

    Example:
        >>> other_rate("divide")
        'divide the learning rate by 10 and run as many steps from the same start: if the loss \
ends no lower, the finding is wrong'
    """
    return (
        f"{change} the learning rate by 10 and run as many steps from the same start: if the loss "
        "ends no lower, the finding is wrong"
    )


def overshoots(probe: LineProbe) -> bool:
    """Whether a step was too long: it made its own batch worse, and a tenth of it would not have.

    A step along which even the least multiple makes it worse went uphill or is too long by more
    than was tried; it counts if it went downhill at first.
    """
    at_one = probe.losses[probe.scales == 1.0]
    if not len(at_one):
        return False
    if not np.isfinite(at_one[0]):
        return True
    worse = at_one[0] - probe.losses[0] > WORSE * abs(probe.losses[0])
    return bool(worse and probe.best_scale <= 0.1 and (probe.best_scale > 0 or probe.slope < 0))


def falls_short(probe: LineProbe) -> bool:
    """Whether ten times the step or more would have lowered the loss of its batch most."""
    return bool(probe.best_scale >= 10.0)


def _trusted(probe: LineProbe) -> bool:
    usable = len(probe.losses) > 1 and np.isfinite(probe.losses[0]) and not probe.reason
    return bool(usable and not probe.mismatch > TRUSTED)


def _rise(probe: LineProbe) -> float:
    """Return the loss after the step relative to that before it; infinite if it is not finite."""
    rise = 1.0 - _fall(probe)
    return rise if np.isfinite(rise) else float("inf")


def _fall(probe: LineProbe) -> float:
    size = abs(float(probe.losses[0]))
    at_one = probe.losses[probe.scales == 1.0]
    return float(probe.losses[0] - at_one[0]) / size if size > 0 and len(at_one) else float("nan")


def _gain(probe: LineProbe) -> float:
    size = abs(float(probe.losses[0]))
    finite = probe.losses[np.isfinite(probe.losses)]
    return float(probe.losses[0] - finite.min()) / size if size > 0 else float("nan")
