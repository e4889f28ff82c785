"""Measures the loss along an update of the weights, on the batch that the update came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils.hooks import RemovableHandle

from gradreach.monitor.guard import Guard
from gradreach.monitor.line_search import HALF_MISMATCH, MISMATCH, measured_slope, searched
from gradreach.monitor.names import transformed
from gradreach.monitor.scaler_calls import ScalerCalls
from gradreach.monitor.tape import Tape, compiled
from gradreach.monitor.tape_replay import BranchChangedError, replayed_gradients, replayed_loss
from gradreach.monitor.tape_values import NotReplayableError, version_of
from gradreach.records.line_probe import LineProbe

__all__ = ["LineProbes"]

HALF = (torch.bfloat16, torch.float16)


class LineProbes:
    """Probes one optimizer step at a time, when told to.

    After :meth:`arm`, the next forward pass that uses weights is recorded on a tape. When the
    optimizer has stepped, the tape is run again with weights between and beyond those of before
    and after. What cannot be probed, or fails its checks, is reported with the reason: the
    recorded loss must come out again to the last bit, and its slope along the update must be
    ⟨gradient, update⟩: by the gradient of the second run, or by differences of its loss. Hooks and
    wrappers are there only while armed.

    Args:
        guard: Runs what is ours, and counts its seconds.
        on_probe: Called with each probe, at the end of the optimizer's step.
        scalers: Who knows the factor that a loss was multiplied with.
        told: Somebody else calls :meth:`before_step` and :meth:`after_step`. A hook that is set
            or removed while torch goes through the hooks of a step makes it stumble over the next
            one, where a user has set one behind ours.

    Attributes:
        armed: Whether a probe is under way.

    Cost:
        Per probe a forward and backward pass and 3 to 11 forward passes (10 more where the slope
        has to be measured by differences), together 2 to 5 times a pass of the user's, and two
        copies of the weights; nothing between probes.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=100.0)
        >>> found = []
        >>> probes = LineProbes(Guard(on_fault=lambda: None), found.append)
        >>> probes.arm(step=0)
        >>> model(torch.ones(3, 2)).square().mean().backward()
        >>> optimizer.step()
        >>> found[0].reason, found[0].best_scale < 0.01, found[0].change > 1e4
        ('', True, True)
    """

    def __init__(
        self,
        guard: Guard,
        on_probe: Callable[[LineProbe], None],
        scalers: ScalerCalls | None = None,
        *,
        told: bool = False,
    ) -> None:
        self.guard, self.on_probe, self.scalers, self.told = guard, on_probe, scalers, told
        self.armed = False
        self._step = 0
        self._tape: Tape | None = None
        self._stopped: Tape | None = None  # the one before
        self._factor = 1.0
        self._gradients: dict[int, Tensor] = {}  # of the pass, by id of the weight
        self._marks: dict[int, tuple[int, int]] = {}  # which tensors those are, their versions
        self._mixed: set[int] = set()  # weights whose gradient is not of that pass alone
        self._before: dict[int, Tensor] = {}  # the weights before the step
        self._depth = 0
        self._handles: list[RemovableHandle] = []
        self._wrapped: list[tuple[Any, Callable[..., Any], Callable[..., Any]]] = []

    def arm(self, step: int) -> None:
        """Probe the step that the next forward pass leads to.

        To be called between steps, after at least one whole pass: a model that ``torch.compile``
        is to take in has then been compiled, and is left alone.

        Args:
            step: Its number, for the record.
        """
        if self.armed:
            return
        self.armed, self._step = True, step
        if compiled():
            self._give_up("torch.compile is in use")
            return
        hooks = torch.nn.modules.module
        self._handles = [hooks.register_module_forward_pre_hook(partial(self.guard, self._enter))]
        if not self.told:
            self._handles += [
                register_optimizer_step_pre_hook(self._before_hook),
                register_optimizer_step_post_hook(self._after_hook),
            ]
        # Both: the method is where the mode must be gone, the function is what others call.
        owners: tuple[Any, ...] = (Tensor, torch.autograd)
        for owner in owners:
            own = owner.backward
            ours = self._wrapper(own)
            self._wrapped.append((owner, own, ours))
            owner.backward = ours

    def stop(self) -> None:
        """Take everything away; a probe under way is dropped."""
        self.armed = False
        for handle in self._handles:
            handle.remove()
        for owner, own, ours in reversed(self._wrapped):
            if owner.backward is ours:
                owner.backward = own
        # A tape that is stopped by a call it notes is put back by torch when that call returns,
        # and records nothing then; it is taken off the next time.
        for tape in (self._tape, self._stopped):
            if tape is not None:
                tape.stop()
                tape.decline("the probe has ended")
        self._stopped = self._tape or self._stopped
        self._handles, self._wrapped, self._tape = [], [], None
        self._gradients, self._marks, self._before, self._mixed = {}, {}, {}, set()

    # ---- in the user's step

    def _enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        tape = self._tape
        # A pass that was differentiated and not stepped was of other weights, a critic's, or of
        # gradients that are accumulated, which the next pass will show. Within a backward pass
        # checkpointing calls modules again.
        begin = (tape is None or tape.loss is not None) and not self._depth
        if begin and torch.is_grad_enabled() and not transformed():
            self._begin(module)

    def _begin(self, module: nn.Module) -> None:
        if any(weight.requires_grad for weight in module.parameters()):
            self._gradients, self._marks, self._mixed = {}, {}, set()
            self._tape = Tape(self.guard)
            self._tape.begin()

    def _wrapper(self, own: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(own)
        def backward(roots: Any, *args: Any, **options: Any) -> Any:
            outermost = self._wrapped and not self._depth and torch._C._current_graph_task_id() < 0
            if outermost:
                self.guard(self._passing, roots, args, options)
            self._depth += 1
            try:
                return own(roots, *args, **options)
            finally:
                self._depth -= 1
                if outermost:
                    self.guard(self._passed)

        return backward

    def _passing(self, roots: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        tape = self._tape
        if tape is None or not tape.recording:
            if tape is not None:
                tape.stop()  # it gave up on the way
            return
        own = [roots] if isinstance(roots, Tensor) else list(roots)
        weighted = [*args[:1], options.get("gradient"), options.get("grad_tensors")]
        if any(each is not None for each in weighted):
            tape.decline("backward was given a gradient to start from")
        self._factor = 1.0 if self.scalers is None else self.scalers.factor(own)
        tape.end(own)
        tape.attempt(self._look_before, tape)

    def _look_before(self, tape: Tape) -> None:
        self._mixed = {key for key, gradient in _held(tape).items() if bool((gradient != 0).any())}

    def _passed(self) -> None:
        if self._tape is not None and self._tape.loss is not None:
            self._tape.attempt(self._look_after, self._tape)

    def _look_after(self, tape: Tape) -> None:
        held = _held(tape)
        marks = {key: (id(gradient), version_of(gradient)) for key, gradient in held.items()}
        if self._marks:  # a second pass: what it has reached holds the gradients of both
            self._mixed |= {key for key, mark in marks.items() if self._marks.get(key) != mark}
            return
        self._marks = marks
        self._gradients = {key: gradient.detach().clone() for key, gradient in held.items()}

    # ---- around the optimizer's step

    def _before_hook(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self.guard(self.before_step, optimizer)

    def _after_hook(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self.guard(self.after_step, optimizer)

    def before_step(self, optimizer: Optimizer) -> None:
        """Keep the weights that an optimizer is about to move."""
        if not self.armed:
            return
        if self._tape is None or not self._tape.reason:
            self._before = {id(weight): weight.detach().clone() for weight in _weights(optimizer)}

    def after_step(self, optimizer: Optimizer) -> None:
        """Probe, where these were the weights of the pass."""
        tape = self._tape
        if tape is None or tape.recording:
            return
        own = [weight for weight in _weights(optimizer) if id(weight) in self._before]
        if not tape.reason and not any(id(weight) in self._gradients for weight in own):
            return  # of other weights: those of the pass are yet to move
        try:
            if tape.reason:
                raise NotReplayableError(tape.reason)
            if any(id(weight) in self._mixed for weight in own):
                raise NotReplayableError("gradients of several passes are accumulated")
            probe = _Line(tape, own, self._before, self._gradients, self._factor).probe(self._step)
        except NotReplayableError as error:
            self._give_up(str(error))
            return
        except Exception as error:  # noqa: BLE001  what is run again may do what it did not before
            self._give_up(f"the pass could not be run again ({type(error).__name__}: {error})")
            return
        self.stop()
        self.on_probe(probe)

    def _give_up(self, reason: str) -> None:
        self.stop()
        none, nan = np.zeros(0), float("nan")
        self.on_probe(
            LineProbe(
                step=self._step, scales=none, losses=none, slope=nan, mismatch=nan, reason=reason
            )
        )


class _Line:
    """The weights along an update, and the loss there."""

    def __init__(
        self,
        tape: Tape,
        weights: Sequence[Tensor],
        before: dict[int, Tensor],
        gradients: dict[int, Tensor],
        factor: float,
    ) -> None:
        self.tape, self.factor = tape, factor
        self.before = {id(w): before[id(w)] for w in weights}
        self.after = {id(w): w.detach() for w in weights}
        self.update = {key: self.after[key] - self.before[key] for key in self.before}
        self.slope, self.size = self._along(gradients)

    def loss(self, scale: float) -> float:
        """Return the loss at a multiple of the update; NaN where the pass would go another way."""
        try:
            return float(replayed_loss(self.tape, self._weights(scale))) / self.factor
        except BranchChangedError:
            return float("nan")

    def _along(self, gradients: Mapping[int, Tensor | None]) -> tuple[float, float]:
        """Return ⟨gradient, update⟩, and what it would be if no term cancelled another."""
        slope = size = 0.0
        for key, step in self.update.items():
            gradient = gradients.get(key)
            if gradient is not None:
                terms = gradient.double() * step.double()
                slope += float(terms.sum()) / self.factor
                size += float(terms.abs().sum()) / abs(self.factor)
        return slope, size

    def _weights(self, scale: float) -> dict[int, Tensor]:
        if scale == 1.0:  # w + (w' − w) is not w' to the last bit
            return {key: after.clone() for key, after in self.after.items()}
        return {
            key: torch.add(before, self.update[key], alpha=scale) if scale else before.clone()
            for key, before in self.before.items()
        }

    def probe(self, step: int) -> LineProbe:
        """Check that the pass can be run again, and look along the update.

        Raises:
            NotReplayableError: It cannot.
        """
        with torch.no_grad():
            return self._probe(step)

    def _probe(self, step: int) -> LineProbe:
        told = self.tape.loss
        assert told is not None
        if not np.isfinite(self.slope) or not bool(told.isfinite()):
            raise NotReplayableError("the loss, its gradient or the update is not finite")
        if not any(bool(each.any()) for each in self.update.values()):
            raise NotReplayableError("the step changed no weight")
        if self.slope == 0.0:
            raise NotReplayableError("the loss does not change along the update")
        again, gradients = replayed_gradients(self.tape, self._weights(0.0))
        if not torch.equal(told, again):
            raise NotReplayableError(
                f"run again, the pass gives another loss ({float(again):.9g}, was "
                f"{float(told):.9g}): part of it is computed where it is not seen"
            )
        start = float(told) / self.factor
        half = self._is_half()
        mismatch = self._mismatch(self._along(gradients)[0])
        if not mismatch <= (HALF_MISMATCH if half else MISMATCH):
            # A custom function's own forward is recorded without gradients: then by differences.
            digits = torch.finfo(told.dtype).eps
            mismatch = measured_slope(self.loss, start, self.slope, digits, half=half)
        if not mismatch <= (HALF_MISMATCH if half else MISMATCH):
            raise NotReplayableError(
                f"the gradient is not that of the loss when run again (slopes differ by "
                f"{100 * mismatch:.0f} %): part of the pass is computed where it is not seen, or "
                "its gradient is changed on the way"
            )
        along = searched(self.loss, start, mismatch)
        return LineProbe(
            step=step,
            scales=np.array(along.scales),
            losses=np.array(along.losses),
            slope=self.slope,
            mismatch=mismatch,
        )

    def _mismatch(self, slope: float) -> float:
        """Compare the slope of what is run again with that told by the user's gradient."""
        # A slope that is what is left of terms a thousand times its size has no more digits.
        larger = max(abs(slope), abs(self.slope), 1e-3 * self.size)
        return abs(slope - self.slope) / larger

    def _is_half(self) -> bool:
        tensors = [*self.before.values(), *(c.value for c in self.tape.values.constants)]
        if any(tensor.dtype in HALF for tensor in tensors):
            return True
        return any(on for call in self.tape.calls for on, _ in call.ambient.autocast)


def _held(tape: Tape) -> dict[int, Tensor]:
    """Return the gradients there are now, by id of the weight."""
    return {id(leaf): leaf.grad for leaf in tape.values.leaves if leaf.grad is not None}


def _weights(optimizer: Optimizer) -> list[Tensor]:
    return [weight for group in optimizer.param_groups for weight in group["params"]]
