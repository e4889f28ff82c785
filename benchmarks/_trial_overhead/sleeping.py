"""What the trials of the benchmark do: next to nothing, for a second."""

from __future__ import annotations

import time


def second(seed: int) -> float:
    """Take a second of no core's time, so that only the machinery's own is seen."""
    begun = time.perf_counter()
    time.sleep(1.0)
    return time.perf_counter() - begun
