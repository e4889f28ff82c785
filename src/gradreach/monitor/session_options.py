"""How a run is watched."""

from __future__ import annotations

from dataclasses import dataclass

from gradreach.monitor.cost import SCRIPT_COST, Cost

__all__ = ["SessionOptions"]


@dataclass(frozen=True)
class SessionOptions:
    """How a run is watched.

    Args:
        every: Sample one pass of so many; ``None`` adapts to the measured cost.
        needs_lag: How far back the task must look, if the user knows.
        steps: Stop the script after so many optimizer steps (passes, where it takes none).
        cost: The preset.
        inputs: Where no recurrent layer is found, measure ∂L/∂x_t of modules without a state.
        block: Keep steps with a gradient that is not finite from being made; ``blocked``: so many,
            then raise.
        says_short: Say so where there are too few steps to judge the training by.
    """

    every: int | None = None
    needs_lag: int | None = None
    steps: int | None = None
    cost: Cost = SCRIPT_COST
    inputs: bool = False
    block: bool = False
    blocked: int | None = None
    says_short: bool = True
