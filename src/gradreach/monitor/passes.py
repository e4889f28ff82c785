"""Sees every backward pass of a process that reaches a recurrent layer, and samples some.

Unit is the backward pass; its end is told by the autograd engine's own callback, before
``backward()`` returns: nothing is clipped yet and no weight has moved. Between samples only
one hook on one weight per layer is left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer
from torch.utils.hooks import RemovableHandle

from gradreach.flow.sources.calls import CellCall, FusedCall, RecordedCall
from gradreach.flow.sources.own_calls import OwnCall
from gradreach.flow.sources.weights import WeightGradients
from gradreach.monitor.backward_calls import BackwardCalls, current_pass
from gradreach.monitor.by_hand import HandUpdates
from gradreach.monitor.cadence import Cadence
from gradreach.monitor.carried import CarryWatch
from gradreach.monitor.forks import end_in_children
from gradreach.monitor.guard import Guard
from gradreach.monitor.hidden_hooks import HiddenHooks
from gradreach.monitor.input_watch import InputWatch
from gradreach.monitor.names import LiveNames
from gradreach.monitor.names_of import NamesOf
from gradreach.monitor.own_cell_watch import OwnCellWatch
from gradreach.monitor.recording import ScriptRecorder
from gradreach.monitor.sampled_pass import SampledPass
from gradreach.monitor.step_rows import StepRows
from gradreach.monitor.steps import Listener, StepCount

__all__ = ["PROBES", "PassWatch", "SampledPass"]

PROBES = 4  # loss steps followed in each sample: the first samples show whether four do


class PassWatch:
    """Hooks into torch's global hooks and reports sampled passes.

    Nothing raised here reaches the user: the first exception of our own is kept in ``fault``
    and everything is unhooked.

    Args:
        on_pass: Called at the end of each sampled backward pass.
        cadence: Which passes to sample.
        on_step: Called after each update with the number of updates so far; what it raises is
            meant to reach the script.
        model: Only its layers count, and the optimizers for which ``relevant`` holds; without
            it, those of every model that is called.

    Attributes:
        rows: Told of every pass, where somebody wants rows.
        before_step, after_step: Called around each step of an optimizer.
        others: Called when the watch lets go of torch: others let go with it.
    """

    def __init__(
        self,
        on_pass: Callable[[SampledPass], None],
        cadence: Cadence,
        on_step: Callable[[int], None] | None = None,
        *,
        model: nn.Module | None = None,
        relevant: Callable[[Optimizer], bool] | None = None,
    ) -> None:
        self.on_pass, self.on_step, self.cadence = on_pass, on_step, cadence
        self.guard = Guard(self.switch_off)
        self.names = LiveNames(self.guard) if model is None else NamesOf(model, self.guard)
        self.rows: StepRows | None = None
        self.before_step: list[Listener] = []
        self.after_step: list[Listener] = []
        self.others: list[Callable[[], None]] = []
        self._relevant = relevant
        self.carried = CarryWatch()
        self.passes = self.samples = 0
        self._by_hand = HandUpdates()
        self._backward = BackwardCalls(self.guard, self._begin, self._called, self._calling)
        self._hidden = HiddenHooks()
        self._count: StepCount | None = None
        self._recorder: ScriptRecorder | None = None
        self._own: OwnCellWatch | None = None
        self._inputs: InputWatch | None = None
        self.wants_inputs = False  # whether modules without a state are to be measured
        self._gradients = WeightGradients([])
        self._values: dict[int, Tensor] = {}
        self._own_watched: set[int] = set()  # ids of parameters of own cells
        self._heartbeats: WeakKeyDictionary[nn.Module, RemovableHandle] = WeakKeyDictionary()
        self._heartbeat = partial(self.guard, self._beat)
        # Or torch warns when a weight is handed to another process that the hook stays behind.
        self._heartbeat.__torch_unserializable__ = True  # type: ignore[attr-defined]
        self._pass: int | None = None  # the engine's number of the pass that is running
        self._mute = False  # the layers seen last have no weight that takes a gradient
        self._more = 0  # samples still to take of a layer that was not seen before
        self._unseen = 0  # calls of backward without a sign, since the last new layer
        self._passes_then = 0  # … at the call of backward before
        self._reason = "start"
        self._armed_at = self._started_at = 0.0

    @property
    def steps(self) -> int:
        """Updates of the weights so far; where no optimizer makes them, the passes."""
        counted = 0 if self._count is None else self._count.steps
        return self.passes if self._by_hand.seen and not counted else counted

    @property
    def elapsed(self) -> float:
        """Seconds since the watch began."""
        return time.perf_counter() - self._started_at

    @property
    def seconds(self) -> float:
        """Time that watching took, the user's own work not counted."""
        return self.guard.seconds + self.guard.aside

    @property
    def fault(self) -> str | None:
        """The traceback of the failure that switched the watch off, if one did."""
        return self.guard.fault

    def start(self) -> None:
        """Begin to watch."""
        self._started_at = time.perf_counter()
        self._backward.start()
        self._count = StepCount(
            self.on_step,
            relevant=self._relevant,
            before=self.before_step,
            after=self.after_step,
            guard=self.guard,
        )
        end_in_children(self.stop)
        self.guard(self._arm)

    def stop(self) -> None:
        """Remove every hook."""
        self.switch_off()
        if self._count is not None:
            self.guard.insist(self._count.stop)

    def switch_off(self) -> None:
        """Remove every hook, except the count of steps by which the script is to be ended."""
        # The others first: their wrappers stand around ours.
        for undo in (*self.others, self._backward.stop, self._disarm, self._stop_heartbeats):
            self.guard.insist(undo)

    def _stop_heartbeats(self) -> None:
        for handle in self._heartbeats.values():
            handle.remove()
        for module in list(self._heartbeats):
            for weight in module.parameters():
                # An empty table that torch leaves would be seen by whoever compares attributes.
                if weight._backward_hooks is not None and not weight._backward_hooks:
                    weight._backward_hooks = None
        self._heartbeats.clear()

    # ---- sampling on and off

    def sample_next(self, reason: str) -> bool:
        """Sample the next pass out of turn, if there is time for it; whether it will be."""
        if self._recorder is None and self.cadence.affords(self.guard.seconds, self.elapsed):
            self._reason = reason
            self._arm()
            return True
        return False

    def _arm(self) -> None:
        self._armed_at = self.guard.seconds
        self.names.start()
        self._recorder = recorder = ScriptRecorder(self.names, self.guard)
        recorder.on_reached = partial(self.guard, self._reach)
        recorder.on_recorded = lambda call: self.carried.check(call, self.steps)
        recorder.__enter__()
        self._own = own = OwnCellWatch(self.names, self.guard, partial(self.guard, self._reach_own))
        own.start()
        handles = [*self.names.handles, *recorder.handles, *own.handles]
        if self.wants_inputs:
            self._inputs = InputWatch(self.names, self.guard, partial(self.guard, self._begin))
            self._inputs.start()
            handles += self._inputs.handles
        self._hidden.start(handles)

    def _disarm(self) -> None:
        self._hidden.stop()
        self.names.stop()
        if self._recorder is not None:
            self._recorder.close()
            # A graph the user keeps would call, and keep, what was recorded of it.
            for call in self._recorder.calls:
                for arrival in call.arrivals():
                    arrival.first = None
        if self._own is not None:
            self._own.release()
        if self._inputs is not None:
            self._inputs.release()
        self._recorder = self._own = self._inputs = None
        self._gradients.close()
        self._gradients = WeightGradients([])
        self._values.clear()
        self._own_watched.clear()

    # ---- inside a backward pass

    def _begin(self) -> None:
        running = current_pass()
        if running == self._pass or self._backward.nested:
            return
        if self._pass is not None:
            self._abandon()
        self._pass = running
        engine = torch.autograd.Variable._execution_engine
        engine.queue_callback(partial(self.guard, self._end, running))

    def _abandon(self) -> None:
        """The pass before raised an exception, so that its end was never told."""
        recorder = self._recorder
        if recorder is None:
            return
        recorder.calls[:] = [call for call in recorder.calls if not call.reached]
        self._gradients.close()
        self._gradients = WeightGradients([])
        self._values.clear()
        self._own_watched.clear()

    def _reach(self, call: RecordedCall) -> None:
        """A sampled pass reaches a call: keep its weights' values, ask for their gradients."""
        self._begin()
        for weight in call.used_weights:
            if weight is None or id(weight) in self._values:
                continue
            # An optimizer inside the backward pass would move the weight before its end.
            self._values[id(weight)] = weight.detach().clone().requires_grad_(weight.requires_grad)
            if weight.requires_grad:
                self._gradients.watch(weight)

    def _reach_own(self) -> None:
        """A sampled pass reaches a cell of the user's own: ask for its parameters' gradients."""
        self._begin()
        assert self._own is not None
        for parameter in self._own.parameters:
            if parameter.requires_grad and id(parameter) not in self._own_watched:
                self._own_watched.add(id(parameter))
                self._gradients.watch(parameter)

    def _end(self, running: int) -> None:
        if running != self._pass:
            return
        self._pass = None
        self._finish()
        assert self._count is not None
        if self._by_hand.seen and not self._count.steps and self.on_step is not None:
            self.on_step(self.passes - 1)  # the update after this pass is yet to come

    def _finish(self) -> None:
        number, self.passes = self.passes, self.passes + 1
        assert self._count is not None
        self._count.passed()
        others = any(each is not None and each.reached for each in (self._own, self._inputs))
        if self._recorder is not None and (self._values or others):
            sampled = self._taken(number, self._recorder)
            self.carried.remember(self._recorder.tails.all())
            self._disarm()
            self.on_pass(sampled)
            self.samples += 1
            cells = [calls[0] for calls in sampled.own_calls.values()]
            for cell in cells:
                self.names.confirm(cell.module)
            if self._set_heartbeats([*sampled.calls, *cells]):
                self._more, self._unseen = self.cadence.first, 0
            self._more -= 1
            self._reason = "start" if self._more > 0 else "cadence"
            self.cadence.took(number, self.guard.seconds - self._armed_at)
        if self._recorder is None and self._is_due():
            self._arm()

    def _is_due(self) -> bool:
        spent = self.guard.seconds
        if self._more > 0 and self.cadence.affords(spent, self.elapsed):
            return True
        return self.cadence.due(self.passes, spent, self.elapsed)

    def _calling(self, roots: Any) -> None:
        """A call of backward is about to run."""
        if self._own is not None:
            self._own.choose()
        if self._inputs is not None and not (self._own and self._own.calls):
            self._inputs.differentiate(roots, PROBES)
        if self.rows is not None:
            self.rows.begin_pass(roots)

    def _called(self, loss: Tensor | None) -> None:
        """A call of backward has returned."""
        if self.rows is not None and self.rows.end_pass(loss) and self._count is not None:
            self._count.passed()
        self._look_for_signs()

    def _look_for_signs(self) -> None:
        """Where a call of backward gave no sign, it may train another layer."""
        unseen = self.passes == self._passes_then
        self._passes_then = self.passes
        if not unseen or self._recorder is not None:
            return
        if self._mute:
            self.passes += 1
            if self._is_due():
                self._arm()
            return
        # Ever more rarely: the passes of a network without recurrence give no sign either.
        self._unseen += 1
        power_of_two = self._unseen & (self._unseen - 1) == 0
        if power_of_two and self.cadence.affords(self.guard.seconds, self.elapsed):
            self._arm()

    def _taken(self, number: int, recorder: ScriptRecorder) -> SampledPass:
        """Return what was recorded, on the values the weights had in the pass."""
        assert self._count is not None
        self._by_hand.look(recorder.calls, self._values, self._count.steps)
        gradients: dict[int, Tensor | None] = {}
        for call in recorder.calls:
            own = [None if w is None else self._values.get(id(w), w) for w in call.used_weights]
            if isinstance(call, FusedCall):
                call.weights = [weight for weight in own if weight is not None]
            elif isinstance(call, CellCall):
                call.weights = tuple(own)
        for key, value in self._values.items():
            gradients[id(value)] = self._gradients.by_id.get(key)
        reached: dict[str, list[OwnCall]] = {}
        if self._own is not None:
            gradients |= {key: self._gradients.by_id.get(key) for key in self._own_watched}
            reached = {
                name: calls
                for name, calls in self._own.calls.items()
                if any(call.reached for call in calls)
            }
        loss = self._backward.loss
        step = number if self._by_hand.seen and not self._count.steps else self._count.steps
        return SampledPass(
            number,
            step,
            self._reason,
            recorder.calls,
            gradients,
            reached,
            [] if self._own is None else self._own.blind,
            {} if self._inputs is None else self._inputs.flows,
            recorder.failures,
            None if loss is None else float(loss),
        )

    def step_ended(self, optimizer: Optimizer) -> None:
        """A step ends with an exception of ours."""
        if self._count is not None:
            self._count.ended(optimizer)

    def skipped(self, optimizer: Optimizer) -> None:
        """A scaler has skipped the step of an optimizer."""
        new = None if self._count is None else self._count.skipped(optimizer)
        if new is not None and self.rows is not None:
            self.rows.skipped(new)

    # ---- between samples

    def _set_heartbeats(self, calls: Sequence[RecordedCall | OwnCall]) -> bool:
        """Leave one hook on one weight of each layer, which counts the passes to come.

        Returns:
            Whether a layer was not seen before.
        """
        new = [call.module for call in calls if call.module not in self._heartbeats]
        for module in dict.fromkeys(new):
            for weight in module.parameters():
                if weight.requires_grad:
                    self._heartbeats[module] = weight.register_hook(self._heartbeat)  # type: ignore[no-untyped-call]
                    break
        self._mute = not any(call.module in self._heartbeats for call in calls)
        return any(module in self._heartbeats for module in new)

    def _beat(self, gradient: Tensor) -> None:
        self._begin()
