"""States as safetensors: tensors beside a tree of plain data; nothing in such a file can be run."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

__all__ = ["read_state", "state_bytes"]

PLAIN = (str, int, float, bool, type(None))


def state_bytes(state: Any) -> bytes:
    """Return the content of a file that holds a state.

    Args:
        state: Tensors, numbers, texts and ``None`` in dicts, tuples and lists, as a ``state_dict``
            has them. Keys may be of any kind; a dict of another class becomes a plain one.

    Raises:
        TypeError: Something else is in it.

    Example:
        >>> import tempfile
        >>> state = {"step": 3, 0: (torch.ones(2), None), "rate": [0.1, float("inf")]}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "a.safetensors"
        ...     _ = path.write_bytes(state_bytes(state))
        ...     read_state(path)
        {'step': 3, 0: (tensor([1., 1.]), None), 'rate': [0.1, inf]}
    """
    tensors: dict[str, Tensor] = {}
    tree = json.dumps(_tree(state, tensors))
    return save(tensors, {"state": tree, "sha256": _digest(tree, tensors)})


def read_state(path: Path) -> Any:
    """Return the state that a file holds.

    Raises:
        ValueError: A bit has changed, or it holds no state.
        Exception: Whatever the reader of safetensors raises for a file of another kind.
    """
    with safe_open(path, framework="pt") as file:
        told = file.metadata() or {}
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    if told.get("sha256") != _digest(told.get("state", ""), tensors):
        raise ValueError("its checksum does not match")
    return _value(json.loads(told["state"]), tensors)


def _tree(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Return a value as JSON; a list is told from a tuple, and a key keeps its kind."""
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, Mapping):
        kind = "counter" if isinstance(value, Counter) else "dict"
        return {kind: [[_tree(k, tensors), _tree(v, tensors)] for k, v in value.items()]}
    if isinstance(value, tuple | list):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_tree(each, tensors) for each in value]}
    raise TypeError(
        f"it holds a {type(value).__qualname__}, which is neither tensor nor plain data"
    )


def _value(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(tree, dict):
        return tree
    ((kind, held),) = tree.items()
    if kind == "tensor":
        return tensors[held]
    if kind in ("dict", "counter"):
        pairs = {_value(k, tensors): _value(v, tensors) for k, v in held}
        return Counter(pairs) if kind == "counter" else pairs
    values = [_value(each, tensors) for each in held]
    return tuple(values) if kind == "tuple" else values


def _digest(tree: str, tensors: Mapping[str, Tensor]) -> str:
    whole = hashlib.sha256(tree.encode())
    for name in sorted(tensors):
        whole.update(tensors[name].reshape(-1).view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()
