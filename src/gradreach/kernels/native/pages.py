"""Memory that is written once and kept: in large pages, since each fault takes a microsecond."""

from __future__ import annotations

from torch import Tensor

from gradreach.kernels.native.core import load

__all__ = ["fresh"]

LARGE = 4 * 2**20  # bytes; below, little lies in whole large pages


def fresh(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Return ``like.new_empty(shape)``, which the system is asked to lay out in large pages.

    Example:
        >>> import torch
        >>> fresh((2, 3), torch.zeros(1, dtype=torch.float64)).dtype
        torch.float64
    """
    made = like.new_empty(shape)
    size = made.numel() * made.element_size()
    if size >= LARGE and made.is_cpu and (core := load()) is not None:
        core.large_pages(made.data_ptr(), size)
    return made
