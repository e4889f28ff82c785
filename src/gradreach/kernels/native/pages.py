"""Memory for results: in large pages where it is large, since each fault takes a microsecond."""

from __future__ import annotations

from torch import Tensor

from gradreach.kernels.native.core import load

__all__ = ["fresh"]

LARGE = 4 * 2**20  # bytes; below, little lies in whole large pages


def fresh(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Return ``like.new_empty(shape)``, which the system is asked to lay out in large pages.

    Without them the memory of a step that goes back to the system after it costs up to a third
    of that step in faults.

    Example:
        >>> import torch
        >>> fresh((2, 3), torch.zeros(1, dtype=torch.float64)).dtype
        torch.float64
    """
    made = like.new_empty(shape)
    if made.nbytes >= LARGE and made.is_cpu and (core := load()) is not None:
        core.large_pages(made.data_ptr(), made.nbytes)
    return made
