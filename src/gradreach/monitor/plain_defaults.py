"""Our own computations in the defaults they were written for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["plain_defaults"]


@contextmanager
def plain_defaults() -> Iterator[None]:
    """Undo for a while what a script may have set for its own tensors: default type and device.

    Example:
        >>> torch.set_default_dtype(torch.float64)
        >>> with plain_defaults():
        ...     torch.zeros(1).dtype
        torch.float32
        >>> torch.zeros(1).dtype
        torch.float64
        >>> torch.set_default_dtype(torch.float32)
    """
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"), torch.autocast("cpu", enabled=False):
            if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
                yield
                return
            with torch.autocast("cuda", enabled=False):
                yield
    finally:
        torch.set_default_dtype(dtype)
