"""Stretches of time that are widened to float64 at once."""

from __future__ import annotations

__all__ = ["stretches"]

LONGEST = 32  # steps


def stretches(steps: int) -> list[tuple[int, int]]:
    """Cut an axis into ``(start, stop)`` of at most 32 steps, and a twelfth of it at most.

    A float64 copy of all steps would be larger than what the training step itself keeps; short
    stretches of a short sequence keep it at some percent of that.

    Example:
        >>> stretches(10)
        [(0, 4), (4, 8), (8, 10)]
    """
    size = max(4, min(LONGEST, steps // 12))
    return [(start, min(start + size, steps)) for start in range(0, steps, size)]
