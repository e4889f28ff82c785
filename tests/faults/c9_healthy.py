"""C9: a healthy LSTM: forget bias 3, T = 100."""

from __future__ import annotations

from tests.faults.c5_closed_gate import B, I, T, gated
from tests.faults.case import Case, LastStepReader, Trial, noise, seeded


def build(seed: int, faulty: bool) -> Trial:
    model = seeded(seed, lambda: LastStepReader(gated(3.0)))
    return Trial(model, (noise(B, T, I, seed=seed),), noise(B, 1, seed=seed + 10))


CASE = Case("c9", __doc__, build, None)
