"""Passes optimizers through the treatments: when they are built, and when they step."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce, wraps
from typing import Any

import torch
from torch.optim.optimizer import Optimizer

from gradreach.treatments.attributes import Attributes
from gradreach.treatments.finished_gradient import take_factor_out
from gradreach.treatments.sites import Site, builder_of, site_at

__all__ = ["OptimizerPatch"]


class OptimizerPatch:
    """``Optimizer.__init__`` and the ``step`` of every class that is met, while started.

    ``step`` is wrapped on the outside of torch's own hooks: a treatment acts where a line before
    ``optimizer.step()`` in the user's loop would. Where somebody has wrapped ours in turn (the
    first ``torch.compile`` of a process does that to LBFGS), it stays in there and does nothing.
    """

    def __init__(self, note: Callable[[Site], None]) -> None:
        self.note = note
        self.built: list[Callable[[Optimizer], None]] = []
        self.before: list[Callable[[Optimizer], None]] = []
        self.around: list[Callable[[Optimizer, Callable[[], Any]], Any]] = []
        self._attributes = Attributes()
        self._wrapped: set[type] = set()
        self._inside: list[Optimizer] = []  # a step may call its parent's
        self._started = False

    def start(self) -> None:
        """Put the wrappers in place."""
        own = Optimizer.__init__

        @wraps(own)
        def constructor(optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
            own(optimizer, *args, **kwargs)
            self._wrap_steps(type(optimizer))
            self._noted(optimizer)
            for act in self.built:
                act(optimizer)

        self._attributes.put(Optimizer, "__init__", constructor)
        self._started = True

    def stop(self) -> None:
        """Put torch's back."""
        self._started = False
        self._attributes.restore()
        self._wrapped.clear()

    def _noted(self, optimizer: Optimizer) -> None:
        frame = builder_of(optimizer, 2)
        kind = type(optimizer)
        numbers: dict[str, Any] = {"class": f"{kind.__module__}.{kind.__qualname__}"}
        for name in ("lr", "momentum", "weight_decay", "betas"):
            if name in optimizer.defaults:
                numbers[name] = _plain(optimizer.defaults[name])
        self.note(site_at(frame, "optimizer", f"torch.optim.{kind.__name__}", numbers=numbers))

    def _wrap_steps(self, kind: type) -> None:
        for each in kind.__mro__:
            if each is Optimizer or each in self._wrapped or "step" not in vars(each):
                continue
            self._wrapped.add(each)
            self._attributes.put(each, "step", self._step(vars(each)["step"]))

    def _step(self, own: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(own)
        def step(optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
            asked = self._started and (self.before or self.around)
            if not asked or any(each is optimizer for each in self._inside):
                return own(optimizer, *args, **kwargs)
            closure = args[0] if args else kwargs.get("closure")
            if closure is None:
                self._act(optimizer)
            elif args:
                args = (self._closed(optimizer, closure), *args[1:])
            else:
                kwargs["closure"] = self._closed(optimizer, closure)
            self._inside.append(optimizer)
            try:
                return self._wrapped_call(optimizer, lambda: own(optimizer, *args, **kwargs))
            finally:
                self._inside.pop()

        step.hooked = True  # type: ignore[attr-defined]  # torch shall not wrap its hooks around it
        return step

    def _wrapped_call(self, optimizer: Optimizer, call: Callable[[], Any]) -> Any:
        def wrapped(inner: Callable[[], Any], wrap: Any) -> Callable[[], Any]:
            return lambda: wrap(optimizer, inner)

        return reduce(wrapped, self.around, call)()

    def _closed(self, optimizer: Optimizer, closure: Callable[[], Any]) -> Callable[[], Any]:
        def closed() -> Any:
            loss = closure()
            self._act(optimizer)
            return loss

        return closed

    def _act(self, optimizer: Optimizer) -> None:
        if not self.before:
            return
        take_factor_out(optimizer)
        for act in self.before:
            act(optimizer)


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.item() if value.numel() == 1 else value.tolist()
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return value if isinstance(value, int | float | str | bool | None) else str(value)
