"""Records the calls of a running script without slowing it down by more than it must."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from gradreach.flow.sources.calls import FusedCall, RecordedCall
from gradreach.flow.sources.recorder import Recorder
from gradreach.monitor.backward_calls import current_pass
from gradreach.monitor.guard import Guard
from gradreach.monitor.names import LiveNames, transformed

__all__ = ["ScriptRecorder"]

KEPT_BYTES = 64 * 2**20  # of copies, from which on records without a graph are looked for


class ScriptRecorder(Recorder):
    """A recorder whose hooks are guarded and timed, and which keeps no graph alive.

    A script may run many forward passes before the next backward: a validation without
    ``no_grad``, say. Their graphs belong to the user, and go when the user drops them; what is
    kept of a call then is of no use unless a later one goes on from its state.
    """

    def __init__(self, names: LiveNames, guard: Guard) -> None:
        super().__init__(names)
        self._guard = guard
        self._bytes, self._limit = 0, KEPT_BYTES

    def __enter__(self) -> ScriptRecorder:
        hooks = torch.nn.modules.module
        # The guard itself is what torch calls: nothing of ours stands outside it.
        self._handles = [
            hooks.register_module_forward_pre_hook(partial(self._guard, self._enter_call)),
            hooks.register_module_forward_hook(
                partial(self._guard, self._leave_call), with_kwargs=True
            ),
        ]
        return self

    def _enter_call(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if not transformed():
            self._before(module, args)

    def _leave_call(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        if not transformed():
            self._record_lightly(module, args, kwargs, output)

    def _record_lightly(self, *given: Any) -> None:
        known = len(self.calls)
        self.in_backward = current_pass() != -1
        self._after(*given)
        for call in self.calls[known:]:
            call.leave_graph()
            self._bytes += _size(call)
        if self._bytes > self._limit:
            self._drop_dead()

    def keep_unreached(self) -> None:
        """Forget the calls that a backward pass has reached, and those that none can reach."""
        self._keep({id(call) for call in self.calls if not call.reached and _alive(call)})

    def _drop_dead(self) -> None:
        """Forget calls whose graph is gone, first those that nothing can go on from."""
        live = {id(call) for call in self.calls if _alive(call)}
        wanted = {
            id(call)
            for tail in self.tails.all()
            if id(tail) in live
            for call in _up_to(tail)
        }  # fmt: skip
        self._keep(wanted | live | {id(call) for call in self.calls[-1:]})
        if self._bytes > self._limit // 2:
            self._keep(live | {id(call) for call in self.calls[-1:]})
        self._limit = max(KEPT_BYTES, 2 * self._bytes)

    def _keep(self, wanted: set[int]) -> None:
        dropped = {id(call) for call in self.calls} - wanted
        self.calls[:] = [call for call in self.calls if id(call) in wanted]
        self.tails.forget(dropped)
        for call in self.calls:
            if call.before is not None and id(call.before[0]) in dropped:
                call.before = None
        self._bytes = sum(map(_size, self.calls))


def _alive(call: RecordedCall) -> bool:
    return call.reached or any(place is not None and place.alive for place in call.places())


def _up_to(call: RecordedCall) -> Iterator[RecordedCall]:
    """Yield a call and those it goes on from."""
    each: RecordedCall | None = call
    while each is not None:
        yield each
        each = None if each.before is None else each.before[0]


def _size(call: RecordedCall) -> int:
    inputs = call.inputs.data if isinstance(call.inputs, PackedSequence) else call.inputs
    kept: list[Tensor] = [inputs, *call.entering, *call.leaving]
    if isinstance(call, FusedCall):
        kept.append(call.output)
    return sum(tensor.numel() * tensor.element_size() for tensor in kept)
