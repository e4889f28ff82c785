"""Chooses where trials are run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradreach.errors import GradreachError
from gradreach.trials.local import LocalPool

if TYPE_CHECKING:
    from gradreach.trials.ray_cluster import RayPool

__all__ = ["JobsError", "pool_for"]


class JobsError(GradreachError, ValueError):
    """So many trials cannot be run at a time."""


def pool_for(jobs: int, threads: int, ray: str | None = None) -> LocalPool | RayPool:
    """Return this machine, or a Ray cluster.

    Args:
        jobs: Trials at a time on this machine. threads: Of each.
        ray: ``"auto"`` or an address; ``None`` for this machine.

    Raises:
        JobsError: ``jobs`` is below 1.
        MissingExtraError: Ray is asked for and not installed.
        RayError: The cluster cannot be used.
    """
    if jobs < 1:
        raise JobsError(f"argument 'jobs' must be a whole number of at least 1; got {jobs!r}")
    if ray is not None:
        from gradreach.trials.ray_cluster import RayPool

        return RayPool(ray, threads)
    return LocalPool(jobs, threads)
