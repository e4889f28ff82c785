"""What a trial trains: somebody's script, or a function."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from gradreach.errors import GradreachError

__all__ = ["FunctionTarget", "ScriptTarget", "Target", "TargetError", "target_from", "target_of"]

MAIN = "__mp_main__"  # the standard library's name for a main module loaded without running it


class TargetError(GradreachError, ValueError):
    """A fresh process could not find what it should train."""


@dataclass(frozen=True, kw_only=True)
class ScriptTarget:
    """A training script with its own arguments.

    Attributes:
        path: As the user typed it. args: What follows it. cwd: Where it is run.
    """

    path: str
    args: tuple[str, ...] = ()
    cwd: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"kind": "script", "path": self.path, "args": list(self.args), "cwd": self.cwd}


@dataclass(frozen=True, kw_only=True)
class FunctionTarget:
    """A function ``build(seed, **kwargs)`` that a fresh process imports by name.

    Attributes:
        module: Where it stands. qualname: Its name there. kwargs: Plain data passed on.
        file: Source of the module; what is loaded where the module is the main script.
        cwd: Where it is run.
    """

    module: str
    qualname: str
    file: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    cwd: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"kind": "function", **vars(self), "kwargs": dict(self.kwargs)}

    def load(self) -> Callable[..., Any]:
        """Import the function.

        Raises:
            TargetError: The module is there, but has no such function.
        """
        module = _main_module(self.file) if self.module == MAIN else _imported(self.module)
        found: Any = module
        for name in self.qualname.split("."):
            found = getattr(found, name, None)
        if not callable(found):
            raise TargetError(f"module '{self.module}' has no function '{self.qualname}'")
        return found  # type: ignore[no-any-return]


Target = ScriptTarget | FunctionTarget


def target_from(plain: Mapping[str, Any]) -> Target:
    """Undo ``to_dict`` of either target.

    Example:
        >>> target_from({"kind": "script", "path": "a.py", "args": ["-v"], "cwd": "/"}).args
        ('-v',)
    """
    rest = {name: value for name, value in plain.items() if name != "kind"}
    if plain["kind"] == "script":
        return ScriptTarget(**{**rest, "args": tuple(rest["args"])})
    return FunctionTarget(**rest)


def target_of(build: Callable[..., Any], kwargs: Mapping[str, Any]) -> FunctionTarget | None:
    """Return how a fresh process finds a function; ``None`` where only this process has it.

    A lambda, a function within a function, or one typed into a notebook has no place that
    another process could import it from.

    Raises:
        TargetError: ``kwargs`` is no plain data, so that it could not be sent nor kept.

    Example:
        >>> target_of(json.dumps, {}).qualname, target_of(lambda seed: 0.0, {})
        ('dumps', None)
    """
    try:
        json.dumps(dict(kwargs), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TargetError(
            f"compare(): argument 'kwargs' must be plain data that JSON can hold; got {kwargs!r} "
            f"({error}): pass numbers, texts, lists and dicts, and build the rest in the function"
        ) from error
    name, qualname = getattr(build, "__module__", None), getattr(build, "__qualname__", "<>")
    module = sys.modules.get(name or "")
    file = getattr(module, "__file__", None)
    if module is None or name is None or file is None or "<" in qualname:
        return None
    found: Any = module
    for part in qualname.split("."):
        found = getattr(found, part, None)
    if found is not build or not Path(file).is_file():
        return None
    where = MAIN if name == "__main__" else name
    return FunctionTarget(
        module=where, qualname=qualname, file=str(Path(file).resolve()), kwargs=dict(kwargs),
        cwd=str(Path.cwd()),
    )  # fmt: skip


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise  # one of the module's own imports is missing
        raise TargetError(
            f"the module '{name}' of the function cannot be imported in a fresh process: install "
            "it, or run from the folder that holds it"
        ) from error


def _main_module(file: str) -> ModuleType:
    """Load a main script under another name, so that what it guards by ``__name__`` stays off."""
    known = sys.modules.get(MAIN)  # multiprocessing puts our own main module there
    if known is not None and getattr(known, "__file__", None) == file:
        return known
    spec = importlib.util.spec_from_file_location(MAIN, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[MAIN] = sys.modules["__main__"] = module
    spec.loader.exec_module(module)
    return module
