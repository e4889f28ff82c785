"""Sees every backward pass of a process that reaches a recurrent layer, and samples some.

Unit is the backward pass; its end is told by the autograd engine's own callback, before
``backward()`` returns: nothing is clipped yet and no weight has moved. Between samples only
one hook on one weight per layer is left.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

from gradreach.flow.sources.calls import CellCall, FusedCall, RecordedCall
from gradreach.flow.sources.recorder import Recorder
from gradreach.flow.sources.weights import WeightGradients
from gradreach.monitor.cadence import Cadence
from gradreach.monitor.carried import CarryWatch
from gradreach.monitor.names import LiveNames

__all__ = ["PassWatch", "SampledPass"]


@dataclass
class SampledPass:
    """What was recorded of one pass.

    Args:
        number: Its number among the passes, from 0. step: optimizer steps taken before it.
        gradients: By ``id`` of the weights in ``calls``, what this pass sent to them.
        loss: The value backward was called on, where it was seen.
    """

    number: int
    step: int
    calls: list[RecordedCall]
    gradients: dict[int, Tensor | None]
    failures: dict[str, str] = field(default_factory=dict)
    loss: float | None = None


class PassWatch:
    """Hooks into torch's global hooks and reports sampled passes.

    Nothing raised here reaches the user: the first exception of our own is kept in ``fault``
    and everything is unhooked.

    Args:
        on_pass: Called at the end of each sampled backward pass.
        cadence: Which passes to sample.
        on_step: Called after each optimizer step, with the number of steps so far.
    """

    def __init__(
        self,
        on_pass: Callable[[SampledPass], None],
        cadence: Cadence,
        on_step: Callable[[int], None] | None = None,
    ) -> None:
        self.on_pass, self.on_step, self.cadence = on_pass, on_step, cadence
        self.names = LiveNames()
        self.carried = CarryWatch()
        self.passes = self.steps = self.samples = 0
        self.seconds = 0.0  # spent in here, the user's work not counted
        self.fault: BaseException | None = None
        self.loss: Tensor | None = None
        self._recorder: Recorder | None = None
        self._gradients = WeightGradients([])
        self._values: dict[int, Tensor] = {}
        self._reached = self._open = False
        self._heartbeats: WeakKeyDictionary[nn.Module, RemovableHandle] = WeakKeyDictionary()
        self._handles: list[Any] = []
        self._ended_at: float | None = None
        self._cost: float | None = None
        self._process = os.getpid()
        self._backward: Callable[..., None] | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._see_losses()
        self._handles.append(register_optimizer_step_post_hook(self._stepped))
        os.register_at_fork(after_in_child=self._forked)
        self._arm()

    def stop(self) -> None:
        """Remove every hook."""
        self._disarm()
        for handle in (*self._handles, *self._heartbeats.values()):
            handle.remove()
        self._handles.clear()
        self._heartbeats.clear()
        if self._backward is not None:
            torch.autograd.backward = self._backward
            self._backward = None

    def _forked(self) -> None:
        """A forked child (a data loader's worker) is not watched."""
        if os.getpid() != self._process:
            self.stop()

    def _guard(self, work: Callable[[], None]) -> None:
        """Run our own work; a failure of it switches the watch off and is kept."""
        started = time.perf_counter()
        try:
            work()
        except Exception as error:  # noqa: BLE001  never into the user's backward pass
            self.fault = error
            self.stop()
        finally:
            self.seconds += time.perf_counter() - started

    def _see_losses(self) -> None:
        """Note the value ``backward`` is called on; nothing else tells it."""
        self._backward = own = torch.autograd.backward

        @wraps(own)
        def backward(tensors: Any, *args: Any, **options: Any) -> None:
            if self._recorder is not None and isinstance(tensors, Tensor) and tensors.numel() == 1:
                self.loss = tensors.detach()
            own(tensors, *args, **options)

        torch.autograd.backward = backward

    # ---- sampling on and off

    def _arm(self) -> None:
        self.names.start()
        self._recorder = Recorder(self.names)
        self._recorder.on_reached = self._on_reached
        self._recorder.on_recorded = lambda call: self._guard(lambda: self.carried.check(call))
        self._recorder.__enter__()

    def _disarm(self) -> None:
        self.names.stop()
        if self._recorder is not None:
            self._recorder.__exit__(None, None, None)
        self._recorder = None
        self._gradients.close()
        self._gradients = WeightGradients([])
        self._values.clear()
        self.loss = None
        self._reached = False

    # ---- inside a backward pass

    def _on_reached(self, call: RecordedCall) -> None:
        self._guard(lambda: self._reach(call))

    def _reach(self, call: RecordedCall) -> None:
        """A sampled pass reaches a call: keep its weights' values, ask for their gradients."""
        self._begin()
        self._reached = True
        for weight in call.used_weights:
            if weight is None or id(weight) in self._values:
                continue
            # An optimizer inside the backward pass would move the weight before its end.
            self._values[id(weight)] = weight.detach().clone().requires_grad_(weight.requires_grad)
            if weight.requires_grad:
                self._gradients.watch(weight)

    def _begin(self) -> None:
        if not self._open:
            self._open = True
            if self._recorder is not None:
                self._recorder.in_backward = True
            torch.autograd.Variable._execution_engine.queue_callback(self._end)  # type: ignore[attr-defined]

    def _end(self) -> None:
        self._guard(self._finish)

    def _finish(self) -> None:
        self._open = False
        now = time.perf_counter()
        number, self.passes = self.passes, self.passes + 1
        if self._recorder is None:
            self._learn_idle(now)
        elif self._reached:
            sampled = self._taken(number, self._recorder)
            self.carried.remember(sampled.calls)
            self._disarm()
            self.on_pass(sampled)
            self.samples += 1
            self._set_heartbeats(sampled.calls)
            self._cost = time.perf_counter() - now
        if self._recorder is None and self.cadence.due(self.passes):
            self._arm()
        self._ended_at = time.perf_counter()

    def _learn_idle(self, now: float) -> None:
        if self._ended_at is not None and self._cost is not None:
            self.cadence.learn(self._cost, now - self._ended_at)

    def _taken(self, number: int, recorder: Recorder) -> SampledPass:
        """Return what was recorded, on the values the weights had in the pass."""
        gradients: dict[int, Tensor | None] = {}
        for call in recorder.calls:
            own = [None if w is None else self._values.get(id(w), w) for w in call.used_weights]
            if isinstance(call, FusedCall):
                call.weights = [weight for weight in own if weight is not None]
            elif isinstance(call, CellCall):
                call.weights = tuple(own)
        for key, value in self._values.items():
            gradients[id(value)] = self._gradients.by_id.get(key)
        loss = None if self.loss is None else float(self.loss)
        return SampledPass(number, self.steps, recorder.calls, gradients, recorder.failures, loss)

    # ---- between samples

    def _set_heartbeats(self, calls: list[RecordedCall]) -> None:
        """Leave one hook on one weight of each layer, which counts the passes to come."""
        for call in calls:
            if call.module in self._heartbeats:
                continue
            for weight in call.module.parameters(recurse=False):
                if weight.requires_grad:
                    handle = weight.register_hook(self._beat)  # type: ignore[no-untyped-call]
                    self._heartbeats[call.module] = handle
                    break

    def _beat(self, gradient: Tensor) -> None:
        self._guard(self._begin)

    def _stepped(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        self.steps += 1
        if self.on_step is not None:
            self.on_step(self.steps)
