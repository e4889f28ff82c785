"""The exceptions a caller of gradreach may want to catch."""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = [
    "GradreachError",
    "MissingExtraError",
    "NonFiniteGradientError",
    "NotMeasurableError",
    "require",
]


class GradreachError(Exception):
    """Base of every exception that is gradreach's own."""


class NotMeasurableError(GradreachError):
    """The gradient flow of this model and closure cannot be measured.

    The message is one sentence that names the call, the argument, what was found
    and one fix. Nothing was changed: parameters, gradients, buffers, random streams
    and modes are what they were before the call.
    """


class NonFiniteGradientError(GradreachError, ArithmeticError):
    """More optimizer steps had a gradient that is not finite than ``block_nonfinite`` allows.

    Raised by the call of ``optimizer.step()``, and only where a limit was asked for. The weights
    are those of before the step.
    """


class MissingExtraError(GradreachError, ImportError):
    """A part of gradreach needs a package that its extra would have installed."""


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional package, or say which extra brings it.

    Args:
        module: Dotted name of the package to import.
        extra: Name of the extra of gradreach that installs it.
        purpose: What needs it; the subject of the error's sentence.

    Raises:
        MissingExtraError: The package is not installed.
        ModuleNotFoundError: It is installed, but one of *its* imports is missing: a
            broken installation is never reported as an absent one.

    Example:
        >>> require("math", extra="plot", purpose="`flow.plot()`").pi > 3
        True
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        message = f"{purpose} needs `{module}`: pip install 'gradreach[{extra}]'"
        raise MissingExtraError(message) from error
