"""All tasks by name, each at the length one asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gradreach.tasks.adding import Adding
from gradreach.tasks.copy_memory import CopyMemory
from gradreach.tasks.delayed_xor import DelayedXor
from gradreach.tasks.first_bit import FirstBit
from gradreach.tasks.multiplication import Multiplication
from gradreach.tasks.noise_padded import NoisePadded
from gradreach.tasks.pixel_digits import PixelDigits
from gradreach.tasks.random_permutation import RandomPermutation
from gradreach.tasks.selective_copy import SelectiveCopy
from gradreach.tasks.series import Series
from gradreach.tasks.task import Task
from gradreach.tasks.temporal_order import TemporalOrder

__all__ = ["TASKS", "task_named"]

# Name -> task of the length that `--length` gives, None for its own default. What the length is
# (steps, delay …) differs, as it does between the papers.
TASKS: Mapping[str, Callable[[int | None], Task]] = {
    "first_bit": lambda length: FirstBit(length or 50),
    "adding": lambda length: Adding(length or 100),
    "multiplication": lambda length: Multiplication(length or 100),
    "copy_memory": lambda length: CopyMemory(length or 100),
    "selective_copy": lambda length: SelectiveCopy(length or 256),
    "temporal_order": lambda length: TemporalOrder(length or 100),
    "temporal_order_3": lambda length: TemporalOrder(length or 100, bits=3),
    "random_permutation": lambda length: RandomPermutation(length or 100),
    "delayed_xor": lambda length: DelayedXor(max(300, 3 * (length or 0)), length or 10),
    "noise_padded": lambda length: NoisePadded(length or 100),
    "pixel_digits": lambda length: PixelDigits(),
    "permuted_digits": lambda length: PixelDigits(permuted=True),
    "co2": lambda length: Series("co2", length or 60, 26),
    "sunspots": lambda length: Series("sunspots", length or 30, 1),
}


def task_named(name: str, length: int | None = None) -> Task:
    """Return the task of a name, at a length.

    Args:
        name: One of :data:`TASKS`.
        length: Steps; for ``copy_memory`` and ``delayed_xor`` the delay, for ``selective_copy``
            the steps before the first query. The digits read pixel by pixel have 64.

    Raises:
        ValueError: There is no such task, or the length does not fit it.

    Example:
        >>> task_named("copy_memory", 200).steps
        220
    """
    if name not in TASKS:
        raise ValueError(
            f"task_named(): argument 'name' must be one of {', '.join(TASKS)}; got {name!r}"
        )
    if length is not None and length < 1:
        raise ValueError(
            f"task_named(): argument 'length' must be at least 1; got {length}: leave it out for "
            "the default"
        )
    if length is not None and name in {"pixel_digits", "permuted_digits"} and length != 64:
        raise ValueError(
            f"task_named(): argument 'length' of {name} can only be 64, its pixels; got {length}: "
            "leave it out"
        )
    return TASKS[name](length)
