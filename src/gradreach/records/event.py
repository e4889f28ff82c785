"""Something that happened once while a training was watched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args

__all__ = ["EVENT_KINDS", "Event", "EventKind"]

EventKind = Literal[
    "attached",  # the watch began: model, optimizers, versions
    "jump",  # a cheap quantity jumped, and a sample was taken out of turn
    "nonfinite",  # the first non-finite gradient of a step, with its place
    "blocked",  # an optimizer step was kept from happening
    "skipped",  # GradScaler skipped a step
    "clip",  # a clip call of a kind not seen before
    "blind",  # something could not be measured, and why
    "fault",  # gradreach itself failed and switched a probe off
    "gap",  # rows are missing here: the disk was full, say
    "detached",  # the watch ended
]
EVENT_KINDS: tuple[str, ...] = get_args(EventKind)


@dataclass(frozen=True, kw_only=True)
class Event:
    """One occurrence, with the numbers that belong to it.

    Args:
        kind: One of :data:`EVENT_KINDS`.
        step: Optimizer steps taken before.
        text: One sentence for a reader.
        numbers: Plain data.

    Example:
        >>> print(Event(kind="blocked", step=12, text="the gradient was not finite"))
        step 12, blocked: the gradient was not finite
    """

    kind: EventKind
    step: int
    text: str
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in EVENT_KINDS:
            raise ValueError(
                f"Event(): argument 'kind' must be one of {', '.join(EVENT_KINDS)}; got "
                f"{self.kind!r}"
            )

    def __str__(self) -> str:
        return f"step {self.step}, {self.kind}: {self.text}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "kind": self.kind,
            "step": self.step,
            "text": self.text,
            "numbers": dict(self.numbers),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Undo :meth:`to_dict`."""
        return cls(**{name: plain[name] for name in ("kind", "step", "text", "numbers")})
