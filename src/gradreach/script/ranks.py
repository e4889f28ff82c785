"""Which of the processes of a distributed run this one is."""

from __future__ import annotations

import os

__all__ = ["is_first_rank", "is_one_of_many"]


def is_first_rank() -> bool:
    """Whether this process is rank 0, or no part of a distributed run.

    Example:
        >>> is_first_rank()
        True
    """
    rank = os.environ.get("RANK", "")  # as torchrun sets it
    return not (rank.isdecimal() and int(rank) > 0)


def is_one_of_many() -> bool:
    """Whether a launcher has started other processes beside this one.

    Example:
        >>> is_one_of_many()
        False
    """
    size = os.environ.get("WORLD_SIZE", "")
    return "RANK" in os.environ and size.isdecimal() and int(size) > 1
