"""Notices a state that is carried from one pass into the next without being detached."""

from __future__ import annotations

import linecache
import sys
from dataclasses import dataclass
from types import FrameType
from weakref import ref

from torch import Tensor

from gradreach.flow.sources.calls import RecordedCall

__all__ = ["CarriedState", "CarryWatch"]

FOREIGN = ("/torch/", "/gradreach/", "importlib")  # frames that are not the user's


@dataclass(frozen=True)
class CarriedState:
    """Where a state of an earlier pass entered a layer on the graph.

    Args:
        layer: Name of the module. file, line, source: the user's line that called it.
    """

    layer: str
    file: str
    line: int
    source: str


class CarryWatch:
    """Compares the states that enter a pass with those that left the one before."""

    def __init__(self) -> None:
        self.found: CarriedState | None = None
        self._left: dict[str, list[ref[Tensor]]] = {}

    def remember(self, calls: list[RecordedCall]) -> None:
        """Keep what the last call of each module returned, weakly: no graph is kept alive."""
        self._left = {call.name: [ref(state) for state in call.leaving] for call in calls}

    def check(self, call: RecordedCall) -> None:
        """Look whether a call was entered by a state of the pass before, still on its graph."""
        if self.found is not None:
            return
        earlier = [
            state for left in self._left.values() for each in left if (state := each()) is not None
        ]
        for entering in call.entering:
            if entering.grad_fn is None:
                continue
            if any(entering is old or entering.grad_fn is old.grad_fn for old in earlier):
                file, line = _users_line(sys._getframe())
                source = linecache.getline(file, line).strip()
                self.found = CarriedState(call.name, file, line, source)


def _users_line(frame: FrameType | None) -> tuple[str, int]:
    """Return file and line of the innermost frame that is neither torch's nor ours."""
    while frame is not None:
        name = frame.f_code.co_filename
        if not any(part in name for part in FOREIGN):
            return name, frame.f_lineno
        frame = frame.f_back
    return "", 0
