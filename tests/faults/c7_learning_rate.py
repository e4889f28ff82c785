"""C7: a healthy LSTM trained by Adam with a learning rate of 3: no single batch can tell."""

from __future__ import annotations

from tests.faults.c9_healthy import build as healthy
from tests.faults.case import Case, Trial

LEARNING_RATE = {True: 3.0, False: 3e-3}  # faulty or not; of torch.optim.Adam


def build(seed: int, faulty: bool) -> Trial:
    """The fault is in the optimizer, which has not yet stepped: both trials are the same."""
    return healthy(seed, faulty)


CASE = Case("c7", __doc__, build, None, needs="steps with the learning rate")
