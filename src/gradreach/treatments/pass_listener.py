"""Hears the backward passes of this process, for treatments of objects that are built already."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from gradreach.monitor.backward_calls import BackwardCalls
from gradreach.monitor.guard import Guard
from gradreach.monitor.scaler_calls import ScalerCalls

__all__ = ["PassListener", "stop_listening"]

_listening: list[PassListener] = []


class PassListener:
    """Hears every outermost call of ``backward``, from the first wish for it on.

    A layer or an optimizer that was treated stays treated, so it listens until the process ends.
    Where somebody has put back what stood there before (a test that patched torch), it takes its
    place again at the next wish.

    Args:
        begins: Called before each pass with what ``backward`` is called on, and with the factor
            that a ``GradScaler`` has put on it.
        passed: Called after each pass with its loss, ``None`` where that is no single number.
        factors: Look for a ``GradScaler`` at all; without it the factor is always 1.

    Example:
        >>> listener = PassListener(passed=print)
        >>> listener.listen()
        >>> torch.full((), 3.0, requires_grad=True).backward()
        tensor(3.)
        >>> stop_listening()
    """

    def __init__(
        self,
        begins: Callable[[Any, float], None] | None = None,
        passed: Callable[[Tensor | None], None] | None = None,
        *,
        factors: bool = False,
    ) -> None:
        self._begins, self._passed, self._factors = begins, passed, factors
        self._calls: BackwardCalls | None = None
        self._scaler: ScalerCalls | None = None

    @property
    def listening(self) -> bool:
        """Whether it was wished for and has not been stopped."""
        return self._calls is not None

    def listen(self) -> None:
        """Be in place; where it is already, this costs a microsecond."""
        if self._in_place():
            return
        self.stop()
        guard = Guard(_nothing)
        if self._factors:
            self._scaler = ScalerCalls(guard)
            self._scaler.start()
        self._calls = BackwardCalls(guard, _nothing, self._passed or _nothing, self._begun)
        self._calls.start()
        _listening.append(self)

    def stop(self) -> None:
        """Leave torch as it was."""
        if self._calls is not None:
            self._calls.stop()
        if self._scaler is not None:
            self._scaler.stop()
        self._calls = self._scaler = None
        if self in _listening:
            _listening.remove(self)

    def _in_place(self) -> bool:
        if self._calls is None or self._calls.wrapper not in _layers(torch.autograd.backward):
            return False
        return self._scaler is None or self._scaler.in_place

    def _begun(self, roots: Any) -> None:
        if self._begins is not None:
            scaler = self._scaler
            self._begins(roots, scaler.factor(roots) if scaler and scaler.active else 1.0)


def stop_listening() -> None:
    """End all listening in this process; what was treated listens again when it next needs to."""
    while _listening:
        _listening[-1].stop()


def _layers(function: Any) -> Iterator[Any]:
    """Yield a function and what it wraps."""
    while function is not None:
        yield function
        function = getattr(function, "__wrapped__", None)


def _nothing(*told: object) -> None:
    """Stand in for whoever listens."""
