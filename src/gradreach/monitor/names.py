"""Names recurrent modules by the path that leads to them from the model they are in."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from gradreach.flow.find import find_recurrent
from gradreach.monitor.guard import Guard
from gradreach.records import BlindSpot

__all__ = ["LiveNames", "transformed"]


def transformed() -> bool:
    """Whether torch is tracing or compiling the forward pass: what we computed would be in it."""
    return torch.compiler.is_compiling() or torch._C._is_tracing()


class LiveNames(MutableMapping[nn.Module, str]):
    """The recurrent modules met so far, with their names; weak, so that it keeps no model alive.

    The model is whatever module is called from outside any other: its forward pre-hook looks
    for recurrent modules below it, the first time it is seen.

    Args:
        guard: Runs our hooks.

    Attributes:
        blind: Recurrent modules that cannot be measured, by name.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self.blind: dict[str, BlindSpot] = {}
        self._names: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()
        self._used: set[str] = set()  # also of modules that are gone: records name them
        self._others: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()
        self._roots: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
        self._depth = 0
        self.handles: list[RemovableHandle] = []

    def start(self) -> None:
        """Look at module calls."""
        hooks = torch.nn.modules.module
        self._depth = 0
        self.handles = [
            hooks.register_module_forward_pre_hook(partial(self._guard, self._enter)),
            hooks.register_module_forward_hook(partial(self._guard, self._leave), always_call=True),
        ]

    def stop(self) -> None:
        """Look no more."""
        for handle in self.handles:
            handle.remove()
        self.handles.clear()

    @property
    def models(self) -> list[nn.Module]:
        """The models met that have a recurrent module."""
        return [root for root, recurrent in self._roots.items() if recurrent]

    def confirm(self, module: nn.Module) -> None:
        """Count the models that hold a module among those with a recurrent one: it is a cell."""
        for root, recurrent in self._roots.items():
            if not recurrent and any(part is module for part in root.modules()):
                self._roots[root] = True

    @property
    def roots(self) -> list[nn.Module]:
        """All models met."""
        return list(self._roots)

    def _enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if transformed():
            return
        # A recurrent module may be added to a model after its first call.
        if self._depth == 0 or isinstance(module, nn.RNNBase | nn.RNNCellBase):
            self._name_below(module)
        self._depth += 1

    def _leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        # Hooks may have been set within a call: what is left then was never entered.
        if not transformed():
            self._depth = max(0, self._depth - 1)

    def _name_below(self, root: nn.Module) -> None:
        if root in self._roots:
            return
        found = find_recurrent(root)
        self._roots[root] = bool(found.watched or found.blind)
        for module, name in found.watched.items():
            if module not in self._names:
                self._names[module] = self._unused(name, root)
        for spot in found.blind:
            self.blind.setdefault(spot.module, spot)

    def of_another(self, module: nn.Module, name: str, root: nn.Module) -> str:
        """Return the name of a module that is not torch's: a cell, a module without a state."""
        if module not in self._others:
            self._others[module] = self._unused(name, root)
        return self._others[module]

    def _unused(self, name: str, root: nn.Module) -> str:
        """Keep two models that call their layers alike apart."""
        taken = self._used
        candidates = [name, f"{type(root).__name__}.{name}"]
        candidates += [f"{type(root).__name__}{k}.{name}" for k in range(2, len(taken) + 3)]
        free = next(candidate for candidate in candidates if candidate not in taken)
        taken.add(free)
        return free

    def __getitem__(self, module: nn.Module) -> str:
        return self._names[module]

    def __setitem__(self, module: nn.Module, name: str) -> None:
        self._names[module] = name

    def __delitem__(self, module: nn.Module) -> None:
        del self._names[module]

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(list(self._names))

    def __len__(self) -> int:
        return len(self._names)
