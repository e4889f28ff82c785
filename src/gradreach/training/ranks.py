"""The processes of a data-parallel training: who this one is, and its share of the data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["Ranks", "joined_ranks"]


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those that train one model together; alone without arguments.

    Args:
        rank: Its number, from 0. size: how many there are.

    Example:
        >>> Ranks(rank=1, size=2).share(torch.arange(6))
        tensor([3, 4, 5])
        >>> Ranks().is_first, Ranks(rank=1, size=2).is_first
        (True, False)
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def share(self, batch: Tensor) -> Tensor:
        """Return this process's part of a batch: equal parts, so that means average to the mean."""
        return batch.chunk(self.size)[self.rank]

    def wrapped(self, model: nn.Module) -> nn.Module:
        """Return the model, in ``DistributedDataParallel`` where there are several processes."""
        if self.size == 1:
            return model
        return nn.parallel.DistributedDataParallel(model)


@contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """Join the processes that ``torchrun`` has started (gloo), and leave them at the end.

    Without ``torchrun`` this process is alone, and nothing is started.

    Example:
        >>> with joined_ranks() as ranks:
        ...     ranks.size
        1
    """
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
        yield Ranks()
        return
    distributed = torch.distributed
    if not distributed.is_initialized():
        distributed.init_process_group("gloo")
    try:
        yield Ranks(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
