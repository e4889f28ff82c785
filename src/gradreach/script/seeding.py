"""Gives a training script another seed without editing it."""

from __future__ import annotations

import ast
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

__all__ = ["VARIABLE", "Seeding", "seeding_of", "shift_fixed_seeds"]

VARIABLE = "GRADREACH_SEED"
OPTION = "--seed"
STRIDE = 1_000_003  # a prime: scripts that seed with 0, 1, 2 … meet no other run's seeds by it


@dataclass(frozen=True)
class Seeding:
    """How one run of a script differs from its others.

    Attributes:
        arguments: Those of the script, with ``--seed`` where it has that option.
        shift: Added to whatever the script seeds torch, NumPy and ``random`` with.
        told: The same in one sentence, for the reader.
    """

    arguments: tuple[str, ...]
    shift: int
    told: str


def seeding_of(script: str, arguments: Sequence[str], seed: int) -> Seeding:
    """Decide how a script is given a seed: by its own option or variable, else from outside.

    A script that fixes its own seed would make the same run over and over: run 0 keeps what it
    fixes, further ones add to it. Generators that it makes itself (``torch.Generator``,
    ``numpy.random.default_rng``) are left alone: they mostly draw the data.

    Example:
        >>> seeding_of("no-such-file.py", ["--epochs", "3"], 1).shift
        1000003
    """
    known = _strings(script)
    if OPTION in known or any(each.partition("=")[0] == OPTION for each in arguments):
        given, place = _given(arguments)
        rest = tuple(arguments)
        if place is not None:
            rest = rest[: place[0]] + rest[place[1] :]
        value = str(given + seed)
        return Seeding((*rest, OPTION, value), 0, f"the script was given {OPTION} {value}")
    if VARIABLE in known:
        return Seeding(tuple(arguments), 0, f"the script reads {VARIABLE}, which was {seed}")
    return Seeding(
        tuple(arguments),
        seed * STRIDE,
        "torch, NumPy and random were seeded before the script"
        + (
            "; what it seeds them with itself was shifted (generators of its own were left)"
            if seed
            else ""
        ),
    )


def shift_fixed_seeds(shift: int) -> None:
    """Have every seed that the script fixes in its code shifted; torch must be imported.

    Nothing is put back: it is for a process that ends with the run.
    """
    import numpy as np
    import torch

    def shifted(own: Callable[..., Any], limit: int) -> Callable[..., Any]:
        @wraps(own)
        def seed_(seed: Any = None, *args: Any, **kwargs: Any) -> Any:
            if isinstance(seed, int) and not isinstance(seed, bool):
                seed = (seed + shift) % limit
            return own(seed, *args, **kwargs)

        return seed_

    if not shift:
        return
    torch.manual_seed = torch.random.manual_seed = shifted(torch.manual_seed, 2**63)
    np.random.seed = shifted(np.random.seed, 2**32)
    random.seed = shifted(random.seed, 2**63)


def seed_all(seed: int) -> None:
    """Seed every stream that a training may draw from, and say the seed in the variable."""
    import numpy as np
    import torch

    os.environ[VARIABLE] = str(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  the stream that users' code draws from
    torch.manual_seed(seed)


def _strings(script: str) -> set[str]:
    """Return the texts in a script's code, comments apart; none where it cannot be read."""
    try:
        tree = ast.parse(Path(script).read_bytes())
    except (OSError, ValueError, SyntaxError):
        return set()
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def _given(arguments: Sequence[str]) -> tuple[int, tuple[int, int] | None]:
    """Return the seed among the arguments, and where it stands; 0 where there is none."""
    for place, each in enumerate(arguments):
        name, equals, value = each.partition("=")
        if name != OPTION:
            continue
        end = place + 1
        if not equals:
            value = arguments[end] if end < len(arguments) else ""
            end += 1
        return (int(value) if value.isdecimal() else 0), (place, end)
    return 0, None
