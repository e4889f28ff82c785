"""C2: a tanh RNN whose recurrence has radius 0.5; every step has a loss, which does fall."""

from __future__ import annotations

from tests.faults.c1_contracting import B, I, T, near_linear
from tests.faults.case import Case, StepReader, Trial, noise, seeded


def build(seed: int, faulty: bool) -> Trial:
    radius = 0.5 if faulty else 1.0
    model = seeded(seed, lambda: StepReader(near_linear(seed, radius)))
    return Trial(model, (noise(B, T, I, seed=seed),), noise(B, T, 1, seed=seed + 10))


CASE = Case("c2", __doc__, build, "vanishing-gradient")
