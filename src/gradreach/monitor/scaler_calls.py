"""Sees what a ``GradScaler`` does: the factor on the loss, when it is taken out, skipped steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor
from torch.optim import Optimizer

from gradreach.monitor.guard import Guard

__all__ = ["ScalerCalls"]

METHODS = ("scale", "unscale_", "step", "update")
KEY = "gradreach.factor"  # in the remarks of the graph node that a scaled loss came from
SEARCH_NODES = 64  # behind the root of a pass: a scaled loss may be divided, or summed


class ScalerCalls:
    """Wraps the methods of ``torch.amp.GradScaler`` and its subclasses while started.

    The methods, not the objects: a scaler made before or after is seen alike, and saves and
    copies as ever.

    Args:
        guard: Runs what is ours.
        on_skip: Called with the optimizer whose step was skipped, when its ``scaler.step``
            returns. Its own step hooks have then run only if it is a fused one.

    Attributes:
        skipped: Steps that were skipped so far.

    Cost:
        Microseconds a call; on a GPU one more read of a number that was just read.

    Example:
        >>> weight = torch.ones(2, requires_grad=True)
        >>> optimizer = torch.optim.SGD([weight], lr=0.1)
        >>> scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        >>> calls = ScalerCalls(Guard(on_fault=lambda: None))
        >>> calls.start()
        >>> loss = scaler.scale((3 * weight).sum())
        >>> loss.backward()
        >>> calls.factor(loss), calls.left(optimizer), calls.scaled([weight.grad])
        (8.0, 8.0, True)
        >>> scaler.unscale_(optimizer)
        >>> calls.left(optimizer), calls.scaled([weight.grad])
        (1.0, False)
        >>> calls.stop()
    """

    def __init__(self, guard: Guard, on_skip: Callable[[Optimizer], None] | None = None) -> None:
        self.guard, self.on_skip = guard, on_skip
        self.skipped = 0
        self._factor: Tensor | None = None  # of the last scaled loss, until update()
        self._unscaled: WeakSet[Optimizer] = WeakSet()  # and not stepped yet
        self._depth = 0  # a subclass's step calls its parent's
        self._wrapped: list[tuple[type, str, Callable[..., Any], Callable[..., Any]]] = []

    def start(self) -> None:
        """Put the wrappers in place."""
        for kind in _family(torch.amp.GradScaler):
            for name in METHODS:
                own = kind.__dict__.get(name)
                if callable(own):
                    ours = getattr(self, f"_{name.rstrip('_')}")(own)
                    setattr(kind, name, ours)
                    self._wrapped.append((kind, name, own, ours))

    def stop(self) -> None:
        """Take them away; one that somebody has wrapped in turn stays, and only passes on."""
        for kind, name, own, ours in self._wrapped:
            if kind.__dict__.get(name) is ours:
                setattr(kind, name, own)
        self._wrapped, self._factor, self.on_skip = [], None, None
        self._unscaled.clear()

    # ---- what was seen

    @property
    def in_place(self) -> bool:
        """Whether the wrappers are where they were put, if perhaps wrapped in turn."""
        for kind, name, _, ours in self._wrapped:
            found = kind.__dict__.get(name)
            while found is not None and found is not ours:
                found = getattr(found, "__wrapped__", None)
            if found is None:
                return False
        return bool(self._wrapped)

    @property
    def active(self) -> bool:
        """Whether a loss was scaled since the last ``update()``: else no graph need be searched."""
        return self._factor is not None

    def factor(self, roots: Any) -> float:
        """Return what the root of a backward pass, or the first of several, was multiplied with.

        Args:
            roots: A tensor or a sequence of tensors, as ``torch.autograd.backward`` gets them.
        """
        parts = [roots] if isinstance(roots, Tensor) else list(roots)
        nodes: list[Any] = [part.grad_fn for part in parts if part.grad_fn is not None]
        known = set(nodes)
        for place, node in enumerate(nodes):
            found = node.metadata.get(KEY)
            if found is not None:
                return float(found)
            if place >= SEARCH_NODES:
                break
            new = [n for n, _ in node.next_functions if n is not None and n not in known]
            known.update(new)
            nodes += new
        return 1.0

    def left(self, optimizer: Optimizer) -> float:
        """Return the factor that the gradients of an optimizer's parameters still have in them."""
        done = self._factor is None or optimizer in self._unscaled
        return 1.0 if done else float(self._factor)  # type: ignore[arg-type]

    def scaled(self, gradients: Sequence[Tensor]) -> bool:
        """Whether some of these gradients still have a factor other than 1 in them."""
        if self._factor is None or float(self._factor) == 1.0:
            return False
        without = {
            id(p.grad)
            for optimizer in self._unscaled
            for group in optimizer.param_groups
            for p in group["params"]
        }
        return any(id(gradient) not in without for gradient in gradients)

    # ---- the wrappers

    def _scale(self, own: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(own)
        def scale(scaler: Any, *args: Any, **options: Any) -> Any:
            result = own(scaler, *args, **options)
            if self._wrapped and scaler.is_enabled():
                self.guard(self._note_factor, scaler, result)
            return result

        return scale

    def _unscale(self, own: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(own)
        def unscale_(scaler: Any, optimizer: Any, *args: Any, **options: Any) -> Any:
            result = own(scaler, optimizer, *args, **options)
            if self._wrapped and scaler.is_enabled():
                self.guard(self._unscaled.add, optimizer)
            return result

        return unscale_

    def _step(self, own: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(own)
        def step(scaler: Any, optimizer: Any, *args: Any, **options: Any) -> Any:
            self._depth += 1
            try:
                result = own(scaler, optimizer, *args, **options)
            finally:
                self._depth -= 1
            if self._wrapped and scaler.is_enabled() and not self._depth:
                self.guard(self._note_step, scaler, optimizer)
            return result

        return step

    def _update(self, own: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(own)
        def update(scaler: Any, *args: Any, **options: Any) -> Any:
            result = own(scaler, *args, **options)
            if self._wrapped and scaler.is_enabled():
                self._factor = None
                self._unscaled.clear()
            return result

        return update

    def _note_factor(self, scaler: Any, result: Any) -> None:
        # A copy: update() changes it in place.
        self._factor = factor = scaler._scale.detach().clone()
        for part in _tensors(result):
            if part.grad_fn is not None:
                remarks: Any = part.grad_fn.metadata
                remarks[KEY] = factor

    def _note_step(self, scaler: Any, optimizer: Optimizer) -> None:
        self._unscaled.discard(optimizer)
        found = scaler._per_optimizer_states[id(optimizer)]["found_inf_per_device"]
        if any(float(each) for each in found.values()):
            self.skipped += 1
            if self.on_skip is not None:
                self.on_skip(optimizer)


def _family(kind: type[Any]) -> Iterator[type[Any]]:
    """Yield a class and all that inherit from it."""
    yield kind
    below: type[Any]
    for below in kind.__subclasses__():
        yield from _family(below)


def _tensors(result: Any) -> Iterable[Tensor]:
    """Yield the tensors of what ``scale`` returned; an iterator is the user's to consume."""
    if isinstance(result, Tensor):
        yield result
    elif isinstance(result, list | tuple):
        for part in result:
            yield from _tensors(part)
