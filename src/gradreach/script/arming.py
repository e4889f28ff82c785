"""Acts right after the script's own ``import torch``.

Importing torch earlier would fix its thread pool before a script that sets
``OMP_NUM_THREADS`` itself had a chance to.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["after_import"]


def after_import(name: str, act: Callable[[], None]) -> None:
    """Call ``act`` once the module of this name has been imported; now, if it already is.

    Only in this process: a child forked before the import imports for itself.
    """
    if name in sys.modules:
        act()
        return
    sys.meta_path.insert(0, _Finder(name, act))


class _Finder(MetaPathFinder):
    """Finds the module as the import system would, and lends it a loader that tells us.

    Scripts also look modules up without importing them (``importlib.util.find_spec``); the
    finder stays until the import has succeeded.
    """

    def __init__(self, name: str, act: Callable[[], None]) -> None:
        self.name, self.act = name, act
        self._process, self._searching = os.getpid(), False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.name or self._searching:
            return None
        self._searching = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._searching = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self.imported)
        return spec

    def imported(self) -> None:
        """Act, and look for no further import."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        if os.getpid() == self._process:
            self.act()


class _Loader(Loader):
    """Loads by another loader and takes itself out again before it acts."""

    def __init__(self, loader: Loader, act: Callable[[], None]) -> None:
        self.loader, self.act = loader, act

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        module.__loader__ = self.loader
        self.loader.exec_module(module)
        self.act()
