"""Chooses where to look at the loss along an update, and checks what is seen."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Along", "measured_slope", "searched"]

DOWN = (0.1, 0.03, 0.01, 1e-3, 1e-4, 1e-5, 1e-6)
UP = (3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 1e4, 1e5, 1e6)
# By how much of itself the loss should change where its slope is measured, the best first: more
# bends, less drowns in rounding.
CHANGES = (1e-2, 1e-3, 1e-4)
STEPS = (0.1, 0.01)  # shares of the update, where the loss is near 0 and its size tells nothing
ROUNDING = 300.0  # of its last digits, a change of the loss must be at least
MISMATCH = 0.05  # beyond it, what is run again is not what the gradient is the gradient of
# Gradient and loss in bfloat16 or float16 are each rounded to about 1 %, in ways of their own.
HALF_CHANGES = (0.1, 0.03)
HALF_MISMATCH = 0.25

Loss = Callable[[float], float]


class Along(NamedTuple):
    """The loss at multiples of an update, and the check of its slope.

    Args:
        scales: Increasing, from 0.
        mismatch: Measured slope and that told by the gradient: difference by the larger.
    """

    scales: tuple[float, ...]
    losses: tuple[float, ...]
    mismatch: float


def searched(loss: Loss, start: float, mismatch: float) -> Along:
    """Look at the loss along an update, as far as its size needs to be judged.

    Where the update lowers the loss, multiples of it are tried until the loss rises again; where
    it raises it, fractions until one lowers it.

    Args:
        loss: The loss at a multiple of the update. start: at 0.
        mismatch: As :func:`measured_slope` found it.

    Cost:
        4 to 12 evaluations of the loss.

    Example:
        >>> along = searched(lambda scale: (scale - 40) ** 2, start=1600.0, mismatch=0.0)
        >>> along.scales
        (0.0, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
        >>> searched(lambda scale: (scale - 0.02) ** 2, start=0.02**2, mismatch=0.0).scales
        (0.0, 0.001, 0.01, 0.03, 0.1, 0.3, 1.0)
    """
    seen = {0.0: start, 1.0: loss(1.0), 0.3: loss(0.3)}
    if seen[1.0] < start:
        _walk(UP, loss, seen, start)
    if not seen[1.0] < start or seen[0.3] < seen[1.0]:
        _walk(DOWN, loss, seen, start)
    scales = tuple(sorted(seen))
    return Along(scales, tuple(seen[scale] for scale in scales), mismatch)


def _walk(scales: tuple[float, ...], loss: Loss, seen: dict[float, float], start: float) -> None:
    """Go on until the loss has a lowest point behind it: two scales in a row that are no better."""
    lowest, worse = min(map(_order, seen.values())), 0
    for scale in scales:
        seen[scale] = value = loss(scale)
        found = lowest < start
        worse = 0 if value < lowest else worse + found
        lowest = min(lowest, _order(value))
        if worse == 2 or (worse and not value <= start):
            return


def _order(value: float) -> float:
    """Return a loss to compare by: what is not a number is as bad as can be."""
    return math.inf if math.isnan(value) else value


def measured_slope(
    loss: Loss, start: float, slope: float, digits: float, *, half: bool = False
) -> float:
    """Return by how much the slope of what is run again differs from that told by the gradient.

    Args:
        slope: ⟨gradient, update⟩.
        digits: Relative precision of the loss: 2⁻²³ in float32.
        half: Whether part of it was computed in bfloat16 or float16.

    Returns:
        The difference of both by the larger, at the first distance where it is small enough,
        or the smallest there was. At most ``5 · 2`` evaluations, usually 2.

    Example:
        >>> measured_slope(lambda scale: (scale - 2) ** 2, 4.0, -4.0, 2**-52) < 1e-6
        True
        >>> round(measured_slope(lambda scale: (scale - 2) ** 2, 4.0, -3.0, 2**-52), 3)
        0.25
    """
    enough, least = (HALF_MISMATCH if half else MISMATCH), math.inf
    shares = HALF_CHANGES if half else tuple(c for c in CHANGES if c >= ROUNDING * digits)
    distances = [share * abs(start) / abs(slope) for share in shares if start]
    for distance in (*distances, *STEPS):
        if not 0.0 < distance < math.inf:
            continue
        ahead, behind = loss(distance), loss(-distance)
        found = (ahead - behind) / (2 * distance)
        if not math.isfinite(found):
            continue
        difference = abs(found - slope) / max(abs(found), abs(slope))
        least = min(least, difference)
        if difference <= enough:
            break
    return least
