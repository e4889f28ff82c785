"""Finds and loads the example training scripts that travel with gradreach."""

from __future__ import annotations

import contextlib
import sys
from importlib.resources import files
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import gradreach
from gradreach.errors import GradreachError

__all__ = ["ExampleError", "example_path", "load_example"]


class ExampleError(GradreachError):
    """An example script is missing, or this Python lacks what it imports."""


def example_path(name: str) -> Path:
    """Return where the script of an example stands: in the wheel, or in the repository.

    Args:
        name: Its name without the suffix.

    Raises:
        ExampleError: It is in neither.

    Example:
        >>> example_path("next_word").name
        'next_word.py'
    """
    folders = [Path(gradreach.__file__).parents[2] / "examples"]  # a checkout on PYTHONPATH
    with contextlib.suppress(ModuleNotFoundError):
        # The folder of a wheel; an editable installation maps it onto the repository's.
        folders[:0] = [Path(str(files("gradreach._examples") / f"{name}.py")).parent]
    for folder in folders:
        if (folder / f"{name}.py").is_file():
            return folder / f"{name}.py"
    raise ExampleError(
        f"the example script {name}.py is not part of this installation: install gradreach again"
    )


def load_example(name: str) -> ModuleType:
    """Import an example script, as it stands, under its own name; nothing of it is run.

    Args:
        name: Its name without the suffix.

    Raises:
        ExampleError: It is missing, or imports a module this Python does not have.

    Example:
        >>> load_example("next_word").parse_args([]).cell
        'rnn'
    """
    path = example_path(name)
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ExampleError(f"the example script {path} cannot be imported: is it a .py file?")
    module = module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module  # dataclasses look their module up there while they are made
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        raise ExampleError(
            f"the example script {name}.py needs the module {error.name}, which this Python does "
            "not have: use a complete installation of Python"
        ) from error
    finally:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
    return module
