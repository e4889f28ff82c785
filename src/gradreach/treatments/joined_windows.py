"""Longer windows: several of a stateful training are back-propagated as one."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gradreach.records.finding import Finding
from gradreach.treatments.attributes import Attributes
from gradreach.treatments.edit import Edit
from gradreach.treatments.facts import RunFacts
from gradreach.treatments.interception import Interception
from gradreach.treatments.lines_before_step import at_top
from gradreach.treatments.pass_count import COUNTER, passes
from gradreach.treatments.places import STATE_DETACH, note_places
from gradreach.treatments.recut import recut
from gradreach.treatments.sites import Site
from gradreach.treatments.treatment import Treatment, TreatmentError

__all__ = ["JoinedWindows"]

CLIPPING: Any = sys.modules["torch.nn.utils.clip_grad"]
GROUPS = "_group_tensors_by_device_and_dtype"  # called by clip_grad_value_, also without gradients
CODES = ("truncated-gradient", "vanishing-gradient", "stagnated-training")
SCALER_METHODS = ("step", "unscale_", "update")


@dataclass(frozen=True)
class JoinedWindows(Treatment):
    """Make windows ``windows`` times as long as the script's, whose state is carried over.

    The backward passes of all but the last are put off, their optimizer steps left out, the
    states that the script detaches between them stay attached, and the sum of their losses is
    back-propagated at once: with the same weights throughout, that is one long window, whose
    loss is the sum.

    Args:
        windows: How many become one.

    Example:
        >>> JoinedWindows(4).label
        'truncation(windows=4)'
    """

    family: ClassVar[str] = "truncation"
    source: ClassVar[str] = (
        "Williams & Peng (1990), truncated back-propagation through time, with a longer horizon"
    )
    side_effects: ClassVar[str] = (
        "memory of as many windows, one step where there were several, and gradients that are "
        "summed: plain SGD takes it as a higher learning rate per step; a script that reads "
        "gradients itself after each window finds none"
    )

    windows: int

    def __post_init__(self) -> None:
        if self.windows < 2:
            raise TreatmentError(
                f"JoinedWindows(): argument 'windows' must be 2 or more, got {self.windows!r}; "
                "give how many windows become one"
            )

    def refuses(self, facts: RunFacts) -> str | None:
        """Refuse where no state is carried from window to window, or no optimizer steps."""
        cut = any(site.kind == STATE_DETACH for site in facts.sites)
        if not facts.treatable() or not (cut or any(each.carried for each in facts.layers)):
            return "no state is carried from one window into the next"
        if not too_short(facts):
            return f"one window of {facts.sequence_steps} steps is as long as the task needs"
        if any(each.kind.endswith("LBFGS") for each in facts.optimizers):
            return "L-BFGS asks for the loss and its gradient within its step, which cannot wait"
        return None if facts.optimizers else "no torch optimizer is built whose steps could wait"

    def applies_to(self, finding: Finding, facts: RunFacts) -> bool:
        """Whether the gradient may end at the windows' edges, whatever else the finding names."""
        asked = finding.code in CODES or self.family in finding.remedies
        return asked and self.refuses(facts) is None

    @classmethod
    def candidates(cls, finding: Finding, facts: RunFacts) -> list[Self]:
        """Propose as many as the task's lag asks for, else two and four."""
        counts = [4, 2]
        if facts.needs_lag and facts.sequence_steps:
            # One more than the lag spans: its first window has the least of its steps in reach.
            counts = [max(2, math.ceil(facts.needs_lag / facts.sequence_steps) + 1)]
        return [each for n in counts if (each := cls(n)).applies_to(finding, facts)]

    def install(self, run: Interception) -> None:
        """Put off passes and steps, and keep states attached."""
        note_places(run)
        joined = _Joined(self.windows)
        run.on_built_layer(lambda layer: recut(layer, joins=True))
        run.patching(joined)
        run.around_step(joined.step)

    def apply(self, model: nn.Module, optimizer: Optimizer | None = None) -> nn.Module:
        """Refuse: it is the loop's passes that are joined.

        Raises:
            TreatmentError: Always.
        """
        raise TreatmentError(
            f"{self.label}.apply(): argument 'model' cannot be treated by itself, as it is the "
            f"loop's passes that wait; write `with gradreach.treatments.treat({self.label!r}):` "
            "around model and loop"
        )

    def edits(self, sites: Sequence[Site]) -> list[Edit]:
        """Treat the script from its top: no line of its loop stays what it was."""
        return at_top(self.label, sites)

    def describe(self) -> str:
        """Say it in words and code."""
        return (
            f"Back-propagate {self.windows} windows at once: make each window {self.windows} times "
            "as long and step once for it."
        )


def too_short(facts: RunFacts) -> bool:
    """Whether the task may need more steps than a window has; unknown counts as yes.

    Example:
        >>> too_short(RunFacts(sequence_steps=10, needs_lag=30)), too_short(RunFacts())
        (True, True)
    """
    known = facts.needs_lag is not None and facts.sequence_steps is not None
    return not known or facts.needs_lag >= facts.sequence_steps  # type: ignore[operator]


class _Joined:
    """The passes and steps of a process, of which only every n-th is made."""

    def __init__(self, windows: int) -> None:
        self.windows = windows
        self._counts = False
        self._running = False  # a wrapper that somebody has wrapped in turn stays, and passes on
        self._waiting: list[Tensor] = []
        self._attributes = Attributes()

    @property
    def waits(self) -> bool:
        """Whether there are passes that have been put off."""
        return bool(self._waiting)

    def start(self) -> None:
        """Put the wrappers in place."""
        self._counts = not COUNTER.listening
        passes()  # counted inside of us: a pass that waits has not been made
        self._running = True
        self._attributes.put(torch.autograd, "backward", self._backward(torch.autograd.backward))
        for name in SCALER_METHODS:
            own = getattr(torch.amp.GradScaler, name)
            self._attributes.put(torch.amp.GradScaler, name, self._unless_waiting(own))
        self._attributes.put(CLIPPING, GROUPS, self._of_some(getattr(CLIPPING, GROUPS)))

    def stop(self) -> None:
        """Put torch's back; passes that still wait are never made."""
        self._running = False
        self._waiting.clear()
        self._attributes.restore()
        if self._counts:  # layers that go on being used have it begin anew
            COUNTER.stop()

    def step(self, optimizer: Optimizer, step: Callable[[], Any]) -> Any:
        """Make a step, unless its gradient is not there yet."""
        return None if self.waits else step()

    def _backward(self, own: Callable[..., None]) -> Callable[..., None]:
        @wraps(own)
        def backward(tensors: Any, *args: Any, **options: Any) -> None:
            inner = torch._C._current_graph_task_id() != -1
            if (
                inner
                or not self._running
                or not isinstance(tensors, Tensor)
                or tensors.numel() != 1
            ):
                own(tensors, *args, **options)
                return
            self._waiting.append(tensors)
            if len(self._waiting) < self.windows:
                return
            waiting, self._waiting = self._waiting, []
            own(sum(waiting[1:], waiting[0]), *args, **options)

        return backward

    def _of_some(self, own: Callable[..., Any]) -> Callable[..., Any]:
        """Group no gradients into no groups: torch's own function fails on none at all."""

        @wraps(own)
        def group(gradients: Any, *args: Any, **options: Any) -> Any:
            return own(gradients, *args, **options) if gradients[0] or not self.waits else {}

        return group

    def _unless_waiting(self, own: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(own)
        def method(*args: Any, **options: Any) -> Any:
            return None if self.waits else own(*args, **options)

        return method
