"""Tells where each tensor of a recorded pass comes from: a call, a weight, or outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import Any, NamedTuple
from weakref import ref

import numpy as np
import torch
from torch import Tensor, nn

__all__ = [
    "Constant",
    "NotReplayableError",
    "Ref",
    "TapeValues",
    "mapped",
    "tensors_in",
    "version_of",
]


ATOMS = {type(None), bool, int, float, str, torch.dtype, torch.device}


class NotReplayableError(Exception):
    """A pass cannot be run again from its record; the message is the reason."""


class Ref(NamedTuple):
    """Stands for a tensor: a ``"leaf"``, a ``"constant"`` or a result (``"slot"``), by number."""

    kind: str
    number: int


@dataclass
class Constant:
    """A tensor that the pass was given.

    Args:
        value: It, off the graph, sharing memory and version. version: when it was first used.
        copy: Its values of before the pass wrote into it; ``None`` where it did not.
    """

    value: Tensor
    version: int
    requires_grad: bool
    copy: Tensor | None = None

    @property
    def changed(self) -> bool:
        """Whether it is no longer what the pass was given, and nothing else is known of it."""
        return self.copy is None and version_of(self.value) != self.version

    def fresh(self) -> Tensor:
        """Return what the pass was given; a copy where a call writes into it."""
        if self.copy is None:
            return self.value.detach().requires_grad_(self.requires_grad)
        own = self.copy.clone().requires_grad_(self.requires_grad)
        # A leaf could not be written into; what it stands for could.
        return own.clone() if self.requires_grad else own


class TapeValues:
    """The tensors met by a recording, by identity.

    Results are known weakly: the user's pass keeps no tensor longer because of it.

    Attributes:
        leaves: The tensors that gradients are accumulated in. leaf_versions: when first used.
        constants: Other tensors that no recorded call returned.
        slots: Number of results so far.
        bytes: Held in constants and copies.

    Example:
        >>> values = TapeValues()
        >>> weight, x = torch.ones(2, requires_grad=True), torch.zeros(2)
        >>> values.ref(weight), values.ref(x), values.bind(weight * x), values.ref(x)
        (Ref(kind='leaf', number=0), Ref(kind='constant', number=0), Ref(kind='slot', number=0),
         Ref(kind='constant', number=0))
    """

    def __init__(self) -> None:
        self.leaves: list[Tensor] = []
        self.leaf_versions: list[int] = []
        self.constants: list[Constant] = []
        self.slots = self.bytes = 0
        self._known: dict[int, tuple[ref[Tensor], Ref]] = {}
        self._stored: dict[int, list[int]] = {}  # constants by the memory they are in
        self._written: set[int] = set()

    def find(self, tensor: Tensor) -> Ref | None:
        """Return what stands for a tensor that was met."""
        known = self._known.get(id(tensor))
        if known is None:
            return None
        found = known[0]()
        if found is not tensor:  # that one is gone, and another lives at its address
            return None
        return known[1]

    def ref(self, tensor: Tensor) -> Ref:
        """Return what stands for a tensor; one not met before came from outside."""
        known = self.find(tensor)
        if known is None:
            leaf = tensor.requires_grad and tensor.grad_fn is None
            known = self._leaf(tensor) if leaf else self._constant(tensor)
            self._known[id(tensor)] = (ref(tensor), known)
        return known

    def bind(self, tensor: Tensor) -> Ref:
        """Return what stands for a result; one that was met before stays what it is."""
        known = self.find(tensor)
        if known is None:
            known = Ref("slot", self.slots)
            self.slots += 1
            self._known[id(tensor)] = (ref(tensor), known)
        return known

    def _leaf(self, tensor: Tensor) -> Ref:
        self.leaves.append(tensor)
        self.leaf_versions.append(version_of(tensor))
        return Ref("leaf", len(self.leaves) - 1)

    def _constant(self, tensor: Tensor) -> Ref:
        memory = _memory(tensor)
        if memory in self._written:
            raise NotReplayableError("a tensor was changed through a view of it")
        self.constants.append(Constant(tensor.detach(), version_of(tensor), tensor.requires_grad))
        self._stored.setdefault(memory, []).append(len(self.constants) - 1)
        self.bytes += tensor.numel() * tensor.element_size()
        return Ref("constant", len(self.constants) - 1)

    def keep(self, tensor: Tensor) -> None:
        """Copy a tensor that is about to be written into, if it came from outside."""
        self.ref(tensor)
        memory = _memory(tensor)
        self._written.add(memory)
        held = self._stored.get(memory, [])
        if len(held) > 1:
            raise NotReplayableError("a tensor was changed through a view of it")
        for index in held:
            constant = self.constants[index]
            if constant.copy is None:
                if constant.changed:
                    raise NotReplayableError("a tensor was changed unseen")
                constant.copy = constant.value.clone()
                self.bytes += constant.copy.numel() * constant.copy.element_size()


def version_of(tensor: Tensor) -> int:
    """Return how often a tensor was written into; tensors of inference mode do not count it."""
    return -1 if tensor.is_inference() else tensor._version


def _memory(tensor: Tensor) -> int:
    if tensor.layout is not torch.strided:
        return -id(tensor)
    return tensor.untyped_storage().data_ptr() or -id(tensor)


def tensors_in(given: Any) -> Iterator[Tensor]:
    """Yield the tensors of nested arguments."""
    if isinstance(given, Tensor):
        yield given
    elif isinstance(given, (tuple, list)):
        for part in given:
            yield from tensors_in(part)
    elif isinstance(given, dict):
        for part in given.values():
            yield from tensors_in(part)
    elif isinstance(given, slice):
        yield from tensors_in((given.start, given.stop, given.step))


def mapped(given: Any, change: Callable[[Any], Any]) -> Any:
    """Return nested arguments with each tensor and each :class:`Ref` changed.

    Raises:
        NotReplayableError: Something is among them that may do anything when called again.

    Example:
        >>> mapped({"a": [Ref("slot", 0), 2], "b": slice(0, Ref("slot", 1))}, lambda r: r.number)
        {'a': [0, 2], 'b': slice(0, 1, None)}
    """
    if type(given) in ATOMS:  # most arguments
        return given
    if isinstance(given, (Tensor, Ref)):
        return change(given)
    if isinstance(given, torch.Size):
        return given
    if isinstance(given, tuple):
        parts = [mapped(part, change) for part in given]
        return type(given)(*parts) if hasattr(given, "_fields") else tuple(parts)
    if isinstance(given, list):
        return [mapped(part, change) for part in given]
    if isinstance(given, dict):
        return {key: mapped(part, change) for key, part in given.items()}
    if isinstance(given, slice):
        return slice(*(mapped(part, change) for part in (given.start, given.stop, given.step)))
    if isinstance(given, np.ndarray):
        return given.copy()
    if isinstance(given, torch.Generator):
        raise NotReplayableError("random numbers are drawn from a generator of the user's own")
    if isinstance(given, (FunctionType, MethodType, nn.Module)):
        raise NotReplayableError("a function of the user's own is called by one of torch's")
    return given
