"""Notes where a script makes its optimizer steps, with what a line written there must know."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from torch.optim import Optimizer

from gradreach.treatments.interception import Interception
from gradreach.treatments.sites import caller, script_file, site_at

__all__ = ["note_updates", "script_file"]


def note_updates(run: Interception) -> None:
    """Have a run note a site of kind ``"update"`` wherever an optimizer is stepped.

    Its numbers: ``scaler``, whether it is a ``GradScaler`` that is called there and steps the
    optimizer; ``script``, the file that Python was started with.
    """

    def noting(optimizer: Optimizer, step: Callable[[], Any]) -> Any:
        frame = caller()
        numbers = {"scaler": _scaled(sys._getframe(), frame), "script": script_file()}
        run.note(site_at(frame, "update", type(optimizer).__qualname__, numbers=numbers))
        return step()

    run.around_step(noting)


def _scaled(frame: FrameType | None, until: FrameType | None) -> bool:
    """Whether a scaler stands between a step and the user's frame."""
    while frame is not None and frame is not until:
        if frame.f_globals.get("__name__") == "torch.amp.grad_scaler":
            return True
        frame = frame.f_back
    return False
