"""Recurrent arithmetic: layers over time, replays of recorded passes, the reverse scan."""

from __future__ import annotations

from gradreach.kernels.status import KernelStatus, status

__all__ = ["KernelStatus", "status"]
