"""Whether the system has killed processes for lack of memory."""

from __future__ import annotations

from pathlib import Path

__all__ = ["kills_for_memory"]


def kills_for_memory() -> int:
    """Return how many processes Linux has killed for memory since it started; 0 elsewhere.

    Example:
        >>> kills_for_memory() >= 0
        True
    """
    try:
        for line in Path("/proc/vmstat").read_text("ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except OSError:
        pass
    return 0
