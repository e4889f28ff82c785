"""Recognises a place on the autograd graph without keeping the graph alive."""

from __future__ import annotations

from typing import Any
from weakref import ref

from torch import Tensor

__all__ = ["Place", "mark_of"]

KEY = "gradreach"  # in a node's own dict for remarks, which anomaly mode uses as well


class _Mark:
    """Owned by one graph node alone; it lives as long as the node does."""

    __slots__ = ("__weakref__",)


class Place:
    """Where a tensor came to be: a node of the graph and one of its outputs.

    A reference to the node or to the tensor would hold the whole graph below it, which a user
    who evaluates without ``no_grad`` drops batch by batch. The node is marked instead, and the
    mark is referred to weakly.

    Example:
        >>> import torch
        >>> h = torch.ones(1, requires_grad=True) * 2
        >>> place = Place.of(h)
        >>> place.holds(h), place.holds(h * 2), place.alive
        (True, False, True)
        >>> del h
        >>> place.alive
        False
    """

    __slots__ = ("_mark", "output")

    def __init__(self, mark: _Mark, output: int) -> None:
        self._mark, self.output = ref(mark), output

    @classmethod
    def of(cls, tensor: Tensor) -> Place | None:
        """Mark the place of a tensor; ``None`` where it is on no graph."""
        if tensor.grad_fn is None:
            return None
        remarks: Any = tensor.grad_fn.metadata  # a dict; torch's stub takes it for a method
        return cls(remarks.setdefault(KEY, _Mark()), tensor.output_nr)

    @property
    def mark(self) -> _Mark | None:
        """The mark of the node, while it lives."""
        return self._mark()

    @property
    def alive(self) -> bool:
        """Whether the node still exists."""
        return self._mark() is not None

    def holds(self, tensor: Tensor) -> bool:
        """Whether a tensor stands at this very place."""
        mark = mark_of(tensor.grad_fn)
        return mark is not None and mark is self._mark() and tensor.output_nr == self.output


def mark_of(node: Any) -> _Mark | None:
    """Return the mark of a node, if it bears one."""
    remarks = getattr(node, "metadata", None)
    found: _Mark | None = remarks.get(KEY) if remarks else None
    return found
