"""Notices a state that is carried from one pass into the next without being detached."""

from __future__ import annotations

import linecache
import os
import sys
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch

from gradreach.flow.sources.calls import RecordedCall
from gradreach.flow.sources.place import Place, mark_of

__all__ = ["CarriedState", "CarryWatch"]

SEARCH_NODES = 200  # of the graph behind a state: what happens to it between two passes
OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep  # noqa: PTH100, PTH120
TORCH = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep  # noqa: PTH100, PTH120


@dataclass(frozen=True)
class CarriedState:
    """Where a state of an earlier pass entered a layer on the graph.

    Args:
        layer: Name of the module. file, line, source: the user's line that called it.
        step: Updates of the weights made before.
    """

    layer: str
    file: str
    line: int
    source: str
    step: int


class CarryWatch:
    """Looks for places of the pass before in the graph behind the states that enter a pass.

    Attributes:
        found: The first place where a state entered so.
        in_a_row: The most passes in a row in which one did.
    """

    def __init__(self) -> None:
        self.found: CarriedState | None = None
        self.in_a_row = 0
        self._left: list[Place] = []
        self._row = 0
        self._seen_now = False

    def remember(self, ends: list[RecordedCall]) -> None:
        """A pass has ended: keep the places of the last states of each layer, weakly."""
        self._left = [place for call in ends for place in call.places() if place is not None]
        self._row = self._row + 1 if self._seen_now else 0
        self.in_a_row = max(self.in_a_row, self._row)
        self._seen_now = False

    def check(self, call: RecordedCall, step: int) -> None:
        """Look whether a call was entered by a state of the pass before, still on its graph."""
        if self._seen_now or call.before is not None or not call.entering:
            return
        marks = {mark for place in self._left if (mark := place.mark) is not None}
        if not marks or not any(_behind(state.grad_fn, marks) for state in call.entering):
            return
        self._seen_now = True
        if self.found is None:
            file, line = _users_line(sys._getframe())
            source = linecache.getline(file, line).strip()
            self.found = CarriedState(call.name, file, line, source, step)


def _behind(node: Any, marks: set[Any]) -> bool:
    """Search the graph backwards, the nearest nodes first."""
    queue, known = [node] if node is not None else [], {node}
    for place, each in enumerate(queue):
        if mark_of(each) in marks:
            return True
        if place >= SEARCH_NODES:
            return False
        new = [after for after, _ in each.next_functions if after not in known]
        known.update(new)
        queue += [after for after in new if after is not None]
    return False


def _users_line(frame: FrameType | None) -> tuple[str, int]:
    """Return file and line of the innermost frame that is neither torch's nor ours."""
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith((OURS, TORCH, "<")):
            return name, frame.f_lineno
        frame = frame.f_back
    return "", 0
