"""All faults over training."""

from __future__ import annotations

from tests.faults.training.clipping import CLIPPING
from tests.faults.training.reach import REACH
from tests.faults.training.steps_of_wrong_length import WRONG_STEPS
from tests.faults.training.values_and_ends import VALUES_AND_ENDS

__all__ = ["FAULTS"]

FAULTS = (*WRONG_STEPS, *CLIPPING, *REACH, *VALUES_AND_ENDS)
