"""Keeps an optimizer from making a step with a gradient that is not finite."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import LBFGS
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils.hooks import RemovableHandle

from gradreach.errors import NonFiniteGradientError
from gradreach.monitor.guard import Guard
from gradreach.monitor.nonfinite_place import (
    Found,
    NonFinitePlace,
    all_finite,
    bad_parameters,
    place_of,
)

__all__ = ["StepGuard"]

Step = Callable[..., Any]

_RUNS_HOOKS = Optimizer.profile_hook_step(print).__code__  # the same for every class's wrapper


# Never an error of anybody's: `except Exception` in an optimizer must let it by.
class _StepStopped(BaseException):
    """Unwinds an optimizer that has called its closure and got a gradient that is not finite."""


@dataclass(eq=False)
class _Call:
    """One call of an optimizer's step.

    Args:
        closure: The user's, where there is one. first: what its first call returned.
        kept: What is put back where it is called after something was changed.
        error: To be raised into the user's call.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    looked_at: bool = False
    blocked: bool = False
    closure: Callable[[], Any] | None = None
    first: Any = None
    kept: _Kept | None = None
    error: NonFiniteGradientError | None = None


class StepGuard:
    """Looks at gradients where an optimizer is about to use them, and may let it return instead.

    Every ``step`` of a class of optimizers runs through one wrapper of torch's own, whoever calls
    it: the loop, a learning-rate scheduler's own wrapper, a ``GradScaler``. The function that this
    wrapper calls is replaced, in the wrapper, while started; nothing is set on an optimizer or its
    class. It is called after the step hooks, which may still change the gradients. A blocked step
    is one that the user has left out: weights, moments and counters stay, and hooks that the
    optimizer itself has after its steps do not run.

    Steps that a ``GradScaler`` skips are its own and do not come here. A compiled step, and one of
    sharded weights, is let through.

    Args:
        model: For the names of the parameters.
        guard: Runs what is ours. The one exception that is meant to reach the user is not run by
            it.
        found: What the passes since the last step show of the recurrent layers.
        on_block: Called with the optimizer and the place, if it was found, when a step is blocked.
        on_limit: Called with the optimizer before the limit is raised.
        limit: Steps to block before the next one raises; ``None`` blocks any number.
        relevant: Whether an optimizer's steps are looked at.

    Attributes:
        blocked: Steps blocked so far.

    Cost:
        One read of the gradients a step. With a closure, optimizers that are not torch's own, and
        LBFGS, have their weights and state copied before each step.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> model = torch.nn.ParameterDict({"w": weight})
        >>> optimizer = torch.optim.Adam([weight])
        >>> guard = StepGuard(model, Guard(on_fault=lambda: None), limit=1)
        >>> guard.start()
        >>> weight.grad = torch.tensor([1.0, torch.inf])
        >>> optimizer.step()
        >>> weight.tolist(), len(optimizer.state), guard.blocked
        ([1.0, 1.0], 0, 1)
        >>> optimizer.step()
        Traceback (most recent call last):
        ...
        gradreach.errors.NonFiniteGradientError: Adam.step(): the gradient is not finite, after 1
        step was blocked for that: NaN or infinity in the gradient of w only
        >>> guard.stop()
    """

    def __init__(
        self,
        model: nn.Module,
        guard: Guard,
        *,
        found: Callable[[], Sequence[Found]] = list,
        on_block: Callable[[Optimizer, NonFinitePlace | None], None] | None = None,
        on_limit: Callable[[Optimizer], None] | None = None,
        limit: int | None = None,
        relevant: Callable[[Optimizer], bool] | None = None,
    ) -> None:
        self.model, self.guard, self.found = model, guard, found
        self.on_block, self.on_limit = on_block, on_limit
        self.limit, self.relevant = limit, relevant
        self.blocked = 0
        self.place: NonFinitePlace | None = None  # of the last one
        self._inside: list[Any] = []  # optimizers whose step runs; it may call its parent's
        self._started = False
        self._gates: list[tuple[Any, Step, Step]] = []  # cell, what was in it, and ours
        self._hooks: list[tuple[Optimizer, Any]] = []  # taken off for the rest of a blocked step
        self._handles: list[RemovableHandle] = []

    def start(self) -> None:
        """Begin to look."""
        self._started = True
        self._handles = [
            register_optimizer_step_pre_hook(self._before),
            register_optimizer_step_post_hook(self._after),
        ]

    def pause(self) -> None:
        """Look no more; the hooks stay, as torch may be going through them."""
        self._started = False
        for cell, own, ours in self._gates:
            if cell.cell_contents is ours:
                cell.cell_contents = own
        self._gates = []

    def stop(self) -> None:
        """Put everything back."""
        self.pause()
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._restore_hooks()

    def blocking(self, optimizer: Optimizer) -> bool:
        """Whether the step of an optimizer that is just ending was blocked."""
        return any(each is optimizer for each, _ in self._hooks)

    # ---- the way in

    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """See a class for the first time: torch's wrapper looks its function up after the hooks."""
        if self._started and not torch.compiler.is_compiling():
            self.guard(self._gate, type(optimizer))

    def _gate(self, kind: type) -> None:
        for each in kind.__mro__:
            wrapper = _hooks_around(each.__dict__.get("step"))
            if wrapper is None:
                continue
            cell = wrapper.__closure__[wrapper.__code__.co_freevars.index("func")]
            if not any(cell is known for known, _, _ in self._gates):
                own = cell.cell_contents
                cell.cell_contents = ours = self._gated(own)
                self._gates.append((cell, own, ours))

    def _gated(self, own: Step) -> Step:
        @wraps(own)
        def step(*args: Any, **kwargs: Any) -> Any:
            # All that is ours runs in the guard: what fails there lets the step be made.
            call = _Call(args, kwargs)
            self.guard(self._prepare, call)
            if not call.looked_at:
                return own(*args, **kwargs)
            self._inside.append(args[0])
            try:
                if call.closure is None:
                    self.guard(self._judge, call)
                    return None if call.blocked else own(*args, **kwargs)
                return own(*call.args, **call.kwargs)
            except _StepStopped:
                return call.first
            finally:
                self._inside.pop()
                if call.error is not None:
                    raise call.error from None

        return step

    def _prepare(self, call: _Call) -> None:
        """Decide whether a step is looked at; where it has a closure, put ours around it."""
        optimizer: Optimizer = call.args[0]
        inner = any(optimizer is each for each in self._inside)
        if not self._started or inner or not self._looks_at(optimizer):
            return
        args, kwargs = call.args, call.kwargs
        call.closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if call.closure is not None:
            if not _calls_it_first_and_once(optimizer):
                call.kept = _Kept(optimizer)
            watched = self._watched(call, call.closure)
            if len(args) > 1:
                call.args = (optimizer, watched, *args[2:])
            else:
                call.kwargs = {**kwargs, "closure": watched}
        call.looked_at = True

    def _watched(self, call: _Call, closure: Callable[[], Any]) -> Callable[[], Any]:
        """Return a closure that looks at the gradient that the user's own has left."""

        def closed() -> Any:
            loss = closure()
            if call.first is None:
                call.first = loss
            self.guard(self._judge, call)
            if call.blocked:
                raise _StepStopped
            return loss

        return closed

    def _looks_at(self, optimizer: Optimizer) -> bool:
        if torch.compiler.is_compiling():
            return False
        if getattr(optimizer, "found_inf", None) is not None:
            return False  # a fused optimizer, told by its scaler what to do
        if any(hasattr(weight, "to_local") for weight in _weights(optimizer)):
            return False  # sharded: this process sees a part, and the others must do the same
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            return False  # nothing may be read while a CUDA graph is recorded
        return self.relevant is None or self.relevant(optimizer)

    # ---- what is done

    def _judge(self, call: _Call) -> None:
        """Look at the gradients; block the step where one is not finite."""
        optimizer: Optimizer = call.args[0]
        if all_finite(_gradients(optimizer)):
            return
        if call.kept is not None:
            call.kept.restore()
        call.blocked = True
        self.place = None
        self.guard(self._locate, optimizer)
        enough = self.limit is not None and self.blocked >= self.limit
        self.blocked += not enough
        self._hooks.append((optimizer, optimizer._optimizer_step_post_hooks))
        if self.on_block is not None:
            self.guard(self.on_block, optimizer, self.place)
        if enough:
            call.error = NonFiniteGradientError(self._told(optimizer))
            if self.on_limit is not None:
                self.guard(self.on_limit, optimizer)
            self._restore_hooks()
        else:
            optimizer._optimizer_step_post_hooks = OrderedDict()

    def _locate(self, optimizer: Optimizer) -> None:
        with torch.no_grad():
            bad = bad_parameters(_weights(optimizer))
            self.place = place_of(bad, self.model, optimizer, self.found())

    def _told(self, optimizer: Optimizer) -> str:
        before = "1 step was" if self.blocked == 1 else f"{self.blocked} steps were"
        where = "" if self.place is None else f": {self.place}"
        return (
            f"{type(optimizer).__name__}.step(): the gradient is not finite, after {before} "
            f"blocked for that{where}"
        )

    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self._restore_hooks()

    def _restore_hooks(self) -> None:
        for optimizer, hooks in self._hooks:
            optimizer._optimizer_step_post_hooks = hooks
        self._hooks.clear()


class _Kept:
    """Weights and state of an optimizer, as they were."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._weights = [weight.detach().clone() for weight in _weights(optimizer)]
        self._state = {key: copy.deepcopy(value) for key, value in optimizer.state.items()}

    def restore(self) -> None:
        """Put them back."""
        with torch.no_grad():
            for weight, value in zip(_weights(self._optimizer), self._weights, strict=True):
                weight.copy_(value)
        self._optimizer.state.clear()
        self._optimizer.state.update(self._state)


def _hooks_around(step: Any) -> Any:
    """Return torch's own wrapper of a class's step, which runs the step hooks, if it has one.

    Others may have wrapped it in turn: torch.compile does that to LBFGS.
    """
    while step is not None and getattr(step, "__code__", None) is not _RUNS_HOOKS:
        step = getattr(step, "__wrapped__", None)
    return step


def _calls_it_first_and_once(optimizer: Optimizer) -> bool:
    """Whether an optimizer calls its closure before it changes anything, and never again."""
    own = type(optimizer).__module__.startswith("torch.optim.")
    return own and not isinstance(optimizer, LBFGS)


def _weights(optimizer: Optimizer) -> list[Tensor]:
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def _gradients(optimizer: Optimizer) -> list[Tensor]:
    return [weight.grad for weight in _weights(optimizer) if weight.grad is not None]
