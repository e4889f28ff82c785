"""Leaves a model and the random streams exactly as they were."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["untouched"]

CONTAINERS = (dict, list, set, deque)


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Restore everything a forward pass may change, also when it raises.

    Restored are parameters and buffers (values and objects), ``.grad``, ``requires_grad``,
    train/eval mode, hooks and plain attributes of every module (a state kept in
    ``self.hidden`` or ``self.states[layer]``, say), and the random streams of torch, NumPy and
    Python.

    Cost:
        One copy of the parameters and buffers while the context is open.

    Example:
        >>> model = nn.Linear(1, 1)
        >>> with untouched(model):
        ...     _ = model.eval(), torch.randn(3)
        >>> model.training
        True
    """
    tensors = [*model.parameters(), *model.buffers()]
    copies = [(tensor, tensor.detach().clone()) for tensor in tensors]
    flags = [(tensor, tensor.requires_grad) for tensor in tensors]
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    modules = [(module, _copied(module.__dict__)) for module in model.modules()]
    streams = _streams()
    for parameter, gradient in gradients:
        # A closure that runs backward itself must not add to the user's own gradient.
        parameter.grad = None if gradient is None else gradient.detach().clone()
    try:
        yield
    finally:
        for module, attributes in modules:
            _restore(module.__dict__, attributes)
        for tensor, copy in copies:
            # Values are compared, as batch norm moves its buffers without counting a version;
            # what is unchanged is left alone, as an older graph of the user's may hold it.
            if not torch.equal(tensor, copy):
                with torch.no_grad():
                    tensor.copy_(copy)
        for tensor, flag in flags:
            if tensor.requires_grad != flag:
                tensor.requires_grad_(flag)
        for parameter, gradient in gradients:
            parameter.grad = gradient
        _set_streams(streams)


def _copied(attributes: dict[str, Any]) -> dict[str, Any]:
    """Copy a module's attributes one level deep: registries (parameters, hooks, …) and lists.

    Also the user's own: a forward that keeps its states in ``self.states[layer] = h`` would
    otherwise be left with states of a graph that is gone.
    """
    return {
        name: (value, value.copy() if isinstance(value, CONTAINERS) else None)
        for name, value in attributes.items()
    }


def _restore(attributes: dict[str, Any], saved: dict[str, Any]) -> None:
    for name in attributes.keys() - saved.keys():
        del attributes[name]
    for name, (value, content) in saved.items():
        if attributes.get(name, saved) is not value:
            attributes[name] = value
        if content is None:
            continue
        now, then = _entries(value), _entries(content)
        # By identity: entries may be tensors, whose == is no answer.
        if len(now) != len(then) or any(a is not b for a, b in zip(now, then, strict=True)):
            value.clear()
            (value.extend if isinstance(value, list | deque) else value.update)(content)


def _entries(container: Any) -> list[Any]:
    """Return what a container holds, in order; a dictionary's values after its keys."""
    return [*container, *container.values()] if isinstance(container, dict) else [*container]


def _streams() -> tuple[Any, ...]:
    accelerator: list[Tensor] = []
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        accelerator = torch.cuda.get_rng_state_all()
    # Users draw from NumPy's legacy global stream, so that is the one to keep.
    numpy_state = np.random.get_state()  # noqa: NPY002
    return torch.get_rng_state(), accelerator, numpy_state, random.getstate()


def _set_streams(streams: tuple[Any, ...]) -> None:
    torch.set_rng_state(streams[0])
    if streams[1]:
        torch.cuda.set_rng_state_all(streams[1])
    np.random.set_state(streams[2])  # noqa: NPY002
    random.setstate(streams[3])
