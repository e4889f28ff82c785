"""All cases: the nine of the probe, C4 with both healthy ways to read it."""

from __future__ import annotations

from tests.faults import (
    c1_contracting,
    c2_contracting_dense,
    c3_detached,
    c4_padding,
    c5_closed_gate,
    c6_expanding,
    c7_learning_rate,
    c8_dead,
    c9_healthy,
)
from tests.faults.more import MORE

__all__ = ["CASES", "MORE"]

CASES = (
    c1_contracting.CASE,
    c2_contracting_dense.CASE,
    c3_detached.CASE,
    c4_padding.CASE,
    c4_padding.PACKED,
    c5_closed_gate.CASE,
    c6_expanding.CASE,
    c7_learning_rate.CASE,
    c8_dead.CASE,
    c9_healthy.CASE,
)
