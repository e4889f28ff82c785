"""Looks, where asked to, for modules that map a sequence to a sequence without a state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gradreach.flow.input_flows import input_flows
from gradreach.flow.sources.arrival import Arrival
from gradreach.flow.sources.inputs import SequenceInputs, found_in
from gradreach.monitor.guard import Guard
from gradreach.monitor.names import LiveNames, transformed
from gradreach.records import LayerFlow

__all__ = ["InputWatch"]


class InputWatch(SequenceInputs):
    """A :class:`.SequenceInputs` whose hooks are guarded, on models without a recurrent layer.

    What single loss steps see is asked of the user's own graph, before its backward pass: hooks
    that the user has set on tensors inside are called more often, and the module's input is given
    a gradient where it had none. That is why it is done only on request.

    Args:
        names: Tells the models, and which of them have a recurrent layer.
        guard: Runs our hooks.
        on_reached: Called when the backward pass reaches one of the modules.
    """

    def __init__(self, names: LiveNames, guard: Guard, on_reached: Callable[[], None]) -> None:
        super().__init__(nn.Module(), True)
        self._live, self._guard, self._on_reached = names, guard, on_reached
        self._roots: set[nn.Module] = set()
        self._arrivals: list[Arrival] = []
        self.flows: dict[str, LayerFlow] = {}
        self._names.clear()
        self._meet()

    @property
    def reached(self) -> bool:
        """Whether the backward pass has come through any of the modules."""
        return any(arrival.passes for arrival in self._arrivals)

    def differentiate(self, roots: Any, lag_probes: int) -> None:
        """Measure, from what a backward pass is about to start from; a second call does nothing."""
        if not self._handles:
            return
        self.close()
        parts = roots if isinstance(roots, tuple | list) else (roots,)
        recurrent = {part for root in self._live.models for part in root.modules()}
        self.calls[:] = [call for call in self.calls if call.module not in recurrent]
        if not self.calls or not all(_is_number(part) for part in parts):
            return
        loss = torch.stack([part.reshape(()) for part in parts]).sum()
        if loss.requires_grad:
            self.flows, blind = input_flows(self, loss, lag_probes, 0)
            self.blind[:] = blind
            self._arrivals = [Arrival(call.result, self._on_reached) for call in self.calls]

    def release(self) -> None:
        """Remove the hooks; a graph that the user keeps is not to call us."""
        self.close()
        for arrival in self._arrivals:
            arrival.first = None
        self.calls.clear()

    def _meet(self) -> None:
        for root in self._live.roots:
            if root not in self._roots:
                self._roots.add(root)
                for module, name in found_in(root).items():
                    self._names.setdefault(module, self._live.of_another(module, name, root))

    def _before(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        def cut() -> tuple[Any, ...] | None:
            if module not in self._names and len(self._roots) < len(self._live.roots):
                self._meet()
            return SequenceInputs._before(self, module, args)

        found: tuple[Any, ...] | None = self._guarded(cut)
        return found

    # Where the watch ends within the hooks of a call, torch leaves the keywords out for the rest.
    def _after(self, module: nn.Module, args: tuple[Any, ...], *rest: Any) -> Any:
        if not self._handles:
            return None
        return self._guarded(lambda: SequenceInputs._after(self, module, args, *rest))

    def _guarded(self, work: Callable[[], Any]) -> Any:
        """Return what a hook of ours answers; ``None``, which changes nothing, where it fails."""
        answers: list[Any] = []
        if not transformed():
            self._guard(lambda: answers.append(work()))
        return answers[0] if answers else None


def _is_number(value: Any) -> bool:
    return isinstance(value, Tensor) and value.numel() == 1
