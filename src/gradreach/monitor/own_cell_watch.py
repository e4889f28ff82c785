"""Sees cells of users' own in sampled passes, and measures them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn

from gradreach.flow.own_cell_flows import own_cell_flows
from gradreach.flow.sources.arrival import Arrival
from gradreach.flow.sources.own_calls import OwnCall
from gradreach.flow.sources.own_cells import OwnCells, candidates
from gradreach.flow.untouched import untouched
from gradreach.monitor.guard import Guard
from gradreach.monitor.names import LiveNames, transformed
from gradreach.records import BlindSpot, LayerFlow

__all__ = ["OwnCellWatch", "own_flows"]

MOST = 20_000  # calls kept: forward passes without a backward would keep their graphs alive


class OwnCellWatch(OwnCells):
    """An :class:`.OwnCells` whose hooks are guarded, and whose models are met as they are called.

    Args:
        names: Tells the models.
        guard: Runs our hooks.
        on_reached: Called when the backward pass reaches one of the chosen cells.
    """

    def __init__(self, names: LiveNames, guard: Guard, on_reached: Callable[[], None]) -> None:
        super().__init__(nn.Module(), None)
        self._live, self._guard, self._on_reached = names, guard, on_reached
        self._roots: set[nn.Module] = set()
        self._kept = 0
        self.names.clear()
        self._meet()

    @property
    def reached(self) -> bool:
        """Whether gradient arrived at any chosen cell."""
        return any(call.reached for calls in self.calls.values() for call in calls)

    def choose(self) -> None:
        """Choose the cells among what was seen; a second call does nothing."""
        if not self._handles:
            return
        super().choose()
        for arrival in self._arrivals():
            arrival.first = self._on_reached

    def release(self) -> None:
        """Remove the hooks; a graph that the user keeps is not to call us."""
        self.close()
        for arrival in self._arrivals():
            arrival.first = None
        self._seen.clear()
        self._tails.clear()

    def _arrivals(self) -> Iterator[Arrival]:
        """Yield what receives the gradient of each output of the chosen cells."""
        for calls in self.calls.values():
            for call in calls:
                yield from call.arrivals.values()

    def _meet(self) -> None:
        for root in self._live.roots:
            if root not in self._roots:
                self._roots.add(root)
                for module, name in candidates(root).items():
                    self.names.setdefault(module, self._live.of_another(module, name, root))

    def _before(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self._guard(self._enter_call, module, args)

    def _enter_call(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if transformed():
            return
        if module not in self.names and len(self._roots) < len(self._live.roots):
            self._meet()
        super()._before(module, args)

    # Where the watch ends within the hooks of a call, torch leaves the keywords out for the rest.
    def _after(self, module: nn.Module, args: tuple[Any, ...], *rest: Any) -> None:
        if self._handles:
            self._guard(self._leave_call, module, args, *rest)

    def _leave_call(self, module: nn.Module, *rest: Any) -> None:
        if transformed():
            return
        super()._after(module, *rest)
        if module in self.names:
            self._kept += 1
        if self._kept > MOST:
            self._seen.clear()
            self._tails.clear()
            self._kept = 0


def own_flows(
    calls: Mapping[str, list[OwnCall]],
    gradients: dict[int, Tensor | None],
    lag_probes: int | Sequence[int],
) -> tuple[dict[str, LayerFlow], list[BlindSpot]]:
    """Measure the own cells of a pass, of which each is run again, and left as it was.

    Args:
        gradients: By ``id`` of a parameter, the gradient of this pass.

    Cost:
        As :func:`.own_cell_flows`.
    """
    with ExitStack() as stack:
        for own in calls.values():
            stack.enter_context(untouched(own[0].module))
        return own_cell_flows(calls, gradients, lag_probes, 0)
