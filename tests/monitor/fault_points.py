"""Makes one internal function of the monitor raise once, in the middle of a training."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import FunctionType
from typing import Any

import gradreach.monitor

# What stands between us and the user: there is nothing above it that could catch. The guard
# itself, the calls of `Watch` that users make, and what torch itself calls while we record.
ABOVE_ALL = (
    "gradreach.monitor.guard.",
    "gradreach.monitor.watch.",
    "gradreach.monitor.tape.Tape.__torch_function__",
    "gradreach.monitor.tape.Tape._run_core",
    "gradreach.monitor.own_cell_watch.OwnCellWatch._before",  # hooks: one call of the guard each
    "gradreach.monitor.own_cell_watch.OwnCellWatch._after",
)


class PlantedError(Exception):
    """What the function under test is made to raise."""


def functions() -> dict[str, Callable[..., Any]]:
    """Return every function and method that the monitor defines, by its full name."""
    found: dict[str, Callable[..., Any]] = {}
    for info in pkgutil.iter_modules(gradreach.monitor.__path__, "gradreach.monitor."):
        module = importlib.import_module(info.name)
        for owner, attribute, function in _defined_in(module):
            name = f"{info.name}.{function.__qualname__}"
            if not name.startswith(ABOVE_ALL):
                found[name] = function
                OWNERS[name] = (owner, attribute)
    return found


OWNERS: dict[str, tuple[Any, str]] = {}


def _defined_in(module: Any) -> Iterator[tuple[Any, str, Callable[..., Any]]]:
    for attribute, value in list(vars(module).items()):
        if getattr(value, "__module__", None) != module.__name__:
            continue
        if isinstance(value, FunctionType):
            yield module, attribute, value
        elif inspect.isclass(value):
            for name, member in list(vars(value).items()):
                if isinstance(member, FunctionType) and member.__module__ == module.__name__:
                    yield value, name, member


@contextmanager
def wrapped(name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    """Put something in the place of a function, wherever it has been imported to."""
    owner, attribute = OWNERS[name]
    own = vars(owner)[attribute]
    ours = wrap(own)
    places = [(owner, attribute)]
    if inspect.ismodule(owner):
        for info in pkgutil.iter_modules(gradreach.monitor.__path__, "gradreach.monitor."):
            module = importlib.import_module(info.name)
            places += [(module, n) for n, value in list(vars(module).items()) if value is own]
    for place, each in places:
        setattr(place, each, ours)
    try:
        yield
    finally:
        for place, each in places:
            setattr(place, each, own)


class Fault:
    """Raises the first time its function is called while armed."""

    def __init__(self) -> None:
        self.armed = self.raised = False

    def plant(self, own: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function as it is, but for one call."""

        @wraps(own)
        def function(*args: Any, **options: Any) -> Any:
            if self.armed and not self.raised:
                self.raised = True
                raise PlantedError
            return own(*args, **options)

        return function


class Calls:
    """Notes which functions are called while armed."""

    def __init__(self) -> None:
        self.armed = False
        self.names: set[str] = set()

    def noting(self, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Return what wraps the function of this name."""

        def wrap(own: Callable[..., Any]) -> Callable[..., Any]:
            @wraps(own)
            def function(*args: Any, **options: Any) -> Any:
                if self.armed:
                    self.names.add(name)
                return own(*args, **options)

            return function

        return wrap
