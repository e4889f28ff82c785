"""What a row has that is worth an event of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gradreach.monitor.clip_calls import ClipRow
from gradreach.records.event import EventKind
from gradreach.records.history import CLIP_ORDERS

__all__ = ["RowEvents", "Tell"]

MANY = 20  # of one kind: a threshold that is computed anew each time, a run that is all NaN

Tell = Callable[[EventKind, str, dict[str, Any]], None]


class RowEvents:
    """Tells of kinds of clipping not met before, of skipped steps and of non-finite gradients.

    Example:
        >>> events = RowEvents(lambda kind, text, numbers: print(kind, text))
        >>> for _ in range(2):
        ...     events.look({"taken": 1.0}, ClipRow(1, threshold=5.0, order=2, kind="norm"))
        clip clip_grad_norm_ with 5, before backward
    """

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._clipped: set[tuple[str, float, int]] = set()
        self._count: dict[EventKind, int] = {}

    def look(self, row: Mapping[str, float], clip: ClipRow, *, blocked: bool = False) -> None:
        """Tell what a row and what was clipped for it have that is new.

        Args:
            blocked: We kept the step from being made, and have told why.
        """
        known = (clip.kind, clip.threshold, clip.order)
        if clip.calls and known not in self._clipped:
            self._clipped.add(known)
            text = f"clip_grad_{clip.kind}_ with {clip.threshold:g}, {CLIP_ORDERS[clip.order]}"
            numbers = {"threshold": clip.threshold, "seen": clip.seen, "order": clip.order}
            self.some("clip", text, {"kind": clip.kind, **numbers})
        if blocked:
            return
        if row.get("nonfinite", 0.0) > 0.0:
            count = int(row["nonfinite"])
            text = f"{count} entries of the gradient are not finite"
            self.some("nonfinite", text, {"entries": count})
        if not row["taken"]:
            self.some("skipped", "GradScaler found a gradient that is not finite", {})

    def some(self, kind: EventKind, text: str, numbers: dict[str, Any]) -> None:
        """Tell of an event, unless there were many of its kind."""
        self._count[kind] = self._count.get(kind, 0) + 1
        if self._count[kind] <= MANY:
            self._tell(kind, text, numbers)
