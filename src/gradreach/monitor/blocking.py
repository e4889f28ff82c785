"""What ``watch(block_nonfinite=…)`` switches on: the guard, what it looks at, and what it tells."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

from gradreach.monitor.guard import Guard
from gradreach.monitor.kept_passes import KeptPasses
from gradreach.monitor.nonfinite_place import NonFinitePlace
from gradreach.monitor.row_events import Tell
from gradreach.monitor.step_guard import StepGuard

__all__ = ["Blocking"]


class Blocking:
    """Blocks steps with a gradient that is not finite, and tells of each where it came from.

    Args:
        model, guard, limit, relevant: As of :class:`StepGuard`.
        tell: Takes the events.
        on_limit: Called before the limit is raised into the user's step, whose hooks then do not
            run.

    Cost:
        That of :class:`StepGuard` and :class:`KeptPasses`.
    """

    def __init__(
        self,
        model: nn.Module,
        guard: Guard,
        tell: Tell,
        *,
        limit: int | None,
        relevant: Callable[[Optimizer], bool],
        on_limit: Callable[[Optimizer], None],
    ) -> None:
        self.guard, self._tell = guard, tell
        self.kept = KeptPasses(model, guard)
        self.steps = StepGuard(
            model,
            guard,
            found=self.kept.found,
            on_block=self._blocked,
            on_limit=on_limit,
            limit=limit,
            relevant=relevant,
        )
        self._handle: RemovableHandle | None = None

    def start(self) -> None:
        """Begin; after whoever else has hooks on optimizer steps, and asks :meth:`blocking`."""
        self.kept.start()
        self.steps.start()
        self._handle = register_optimizer_step_post_hook(partial(self.guard, self._stepped))

    def pause(self) -> None:
        """Block no more; hooks stay, as one of them may be running."""
        self.kept.stop()
        self.steps.pause()

    def stop(self) -> None:
        """Put everything back."""
        self.pause()
        self.steps.stop()
        if self._handle is not None:
            self._handle.remove()

    def blocking(self, optimizer: Optimizer) -> bool:
        """Whether the step of an optimizer that is just ending was blocked."""
        return self.steps.blocking(optimizer)

    def _stepped(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self.kept.stepped()

    def _blocked(self, optimizer: Optimizer, place: NonFinitePlace | None) -> None:
        if place is not None:
            self._tell("nonfinite", str(place), place.to_dict())
        name, count = type(optimizer).__name__, self.steps.blocked
        text = f"{name} was kept from a step with a gradient that is not finite"
        self._tell("blocked", text, {"blocked": count, "limit": self.steps.limit})
