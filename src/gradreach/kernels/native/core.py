"""The compiled core: loaded on first use, on the instruction set that the environment allows."""

from __future__ import annotations

import importlib
import os
from functools import cache
from types import ModuleType

__all__ = ["load", "why_not_loaded"]

MODULE = "gradreach.kernels._native"

# Lowers the choice, for tests and for reports of wrong numbers: an instruction set of the core,
# or `reference` for plain torch.
VARIABLE = "GRADREACH_ISA"
INSTRUCTION_SETS = ("avx512", "avx2", "baseline")
REFERENCE = "reference"


def load() -> ModuleType | None:
    """Return the compiled core, ready to be called, or ``None`` where there is none.

    The first call imports torch and then the core; later calls return what the first found.

    Raises:
        ValueError: ``GRADREACH_ISA`` asks for what does not exist, or not here.

    Example:
        >>> core = load()
        >>> (core is None) == (why_not_loaded() is not None)
        True
    """
    return _loaded()[0]


def why_not_loaded() -> str | None:
    """Say in one sentence why there is no compiled core, or return ``None`` where there is one.

    Raises:
        ValueError: as `load`.

    Example:
        >>> why_not_loaded() is None or "native core" in why_not_loaded()
        True
    """
    return _loaded()[1]


@cache  # an error is not kept: every use of a misspelt setting tells of it
def _loaded() -> tuple[ModuleType | None, str | None]:
    asked = os.environ.get(VARIABLE) or None
    known = (*INSTRUCTION_SETS, REFERENCE)
    if asked is not None and asked not in known:
        raise ValueError(
            f"The environment variable {VARIABLE} is {asked!r}, but it names what the kernels "
            f"run on: set it to one of {', '.join(known)}, or unset it."
        )
    if asked == REFERENCE:
        return None, f"the native core is switched off by {VARIABLE}={REFERENCE}"
    core, reason = _imported()
    if asked is not None and (core is None or not core.use_isa(asked)):
        raise ValueError(
            f"The environment variable {VARIABLE} is {asked!r}, but {reason or _lacks(core)}: "
            f"unset it to run on the best there is."
        )
    return core, reason


def _imported() -> tuple[ModuleType | None, str | None]:
    # torch first: its OpenMP runtime is then the one in the process when the core asks for
    # libgomp.so.1. The other way round the system's is loaded, and torch may bring a second.
    importlib.import_module("torch")
    try:
        return importlib.import_module(MODULE), None
    except ModuleNotFoundError as error:
        if error.name != MODULE:
            raise
        return None, "the native core is not built (its installation found no C++ compiler)"
    except ImportError as error:  # the loader's words: a library missing or too old
        return None, f"the native core is built but cannot be loaded ({error})"


def _lacks(core: ModuleType | None) -> str:
    there = [isa for isa in core.compiled_isas() if core.isa_supported(isa)] if core else []
    return f"the native core has only {', '.join(there)} on this processor"
