"""Tensors inside the values that modules take and return: tuples, lists, dicts, dataclasses."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Hashable
from typing import Any

from torch import Tensor

__all__ = ["Path", "mapped", "tensors_in"]

Path = tuple[Hashable, ...]  # keys, indices and field names from the outside in


def mapped(value: Any, function: Callable[[Path, Tensor], Tensor], path: Path = ()) -> Any:
    """Return a copy of a nested value with each tensor replaced; all else stays what it is.

    Containers are always new, so that a module which writes into a dict it is given changes
    the copy only.

    Example:
        >>> import torch
        >>> mapped({"h": (torch.ones(1), 3)}, lambda path, tensor: tensor + len(path))
        {'h': (tensor([3.]), 3)}
    """
    if isinstance(value, Tensor):
        return function(path, value)
    if isinstance(value, tuple | list):
        parts = [mapped(part, function, (*path, place)) for place, part in enumerate(value)]
        if hasattr(value, "_fields"):  # a named tuple, PackedSequence too
            return type(value)(*parts)
        return parts if isinstance(value, list) else tuple(parts)
    if isinstance(value, dict):
        changed = copy.copy(value)  # keeps OrderedDict and the like what they are
        for key, part in value.items():
            changed[key] = mapped(part, function, (*path, key))
        return changed
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        other = copy.copy(value)
        for field in dataclasses.fields(value):
            part = mapped(getattr(value, field.name), function, (*path, field.name))
            object.__setattr__(other, field.name, part)  # frozen ones as well
        return other
    return value


def tensors_in(value: Any) -> dict[Path, Tensor]:
    """Return the tensors of a nested value by their place in it.

    Example:
        >>> import torch
        >>> list(tensors_in((torch.ones(1), {"h": torch.ones(1), "n": 2})))
        [(0,), (1, 'h')]
    """
    found: dict[Path, Tensor] = {}

    def keep(path: Path, tensor: Tensor) -> Tensor:
        found[path] = tensor
        return tensor

    mapped(value, keep)
    return found
