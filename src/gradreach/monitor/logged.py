"""``gradreach.log``: a number that the user's own code tells us."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["LISTENERS", "log"]

LISTENERS: list[Callable[[str, float], None]] = []
"""Who is told; a trial, or whoever else wants the numbers of this process."""


def log(**numbers: float) -> None:
    """Tell gradreach a number, the loss on validation data say; by name, the latest counts.

    In a trial of ``gradreach cure`` or ``gradreach.compare`` the trials are ranked by it.
    Otherwise it does nothing, so that the line may stay in the script.

    Args:
        numbers: By name: numbers, or tensors of one element.

    Raises:
        TypeError: One of them is no number.

    Example:
        >>> log(val_loss=0.3)
    """
    for name, number in numbers.items():
        try:
            value = float(number)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"gradreach.log(): argument '{name}' must be a number; got "
                f"{type(number).__name__}: give its mean, or one of its entries"
            ) from error
        for listener in LISTENERS:
            listener(name, value)
