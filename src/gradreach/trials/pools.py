"""Chooses where trials are run."""

from __future__ import annotations

from gradreach.errors import GradreachError
from gradreach.trials.local import LocalPool

__all__ = ["JobsError", "pool_for"]


class JobsError(GradreachError, ValueError):
    """So many trials cannot be run at a time."""


def pool_for(jobs: int, threads: int, ray: str | None = None) -> LocalPool:
    """Return this machine, or a Ray cluster.

    Args:
        jobs: Trials at a time on this machine. threads: Of each.
        ray: ``"auto"`` or an address; ``None`` for this machine.

    Raises:
        JobsError: ``jobs`` is below 1.
    """
    if jobs < 1:
        raise JobsError(f"argument 'jobs' must be a whole number of at least 1; got {jobs!r}")
    return LocalPool(jobs, threads)
