"""C8: a ReLU RNN all of whose units are dead: a bias of -4 that no input overcomes."""

from __future__ import annotations

from tests.faults.c6_expanding import B, I, T, scaled_identity
from tests.faults.case import Case, LastStepReader, Trial, noise, seeded


def build(seed: int, faulty: bool) -> Trial:
    bias = -4.0 if faulty else 0.0
    model = seeded(seed, lambda: LastStepReader(scaled_identity(1.0, bias)))
    return Trial(model, (noise(B, T, I, seed=seed),), noise(B, 1, seed=seed + 10))


CASE = Case("c8", __doc__, build, "dead-units")
