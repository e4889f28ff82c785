"""Values that are not finite, and trainings that are done."""

from __future__ import annotations

from collections.abc import Callable

import torch
from tests.faults.training.fault import Fault, Optimizer, adam, sgd
from tests.faults.training.tasks import TASKS, echo, fixed_batch, step_reader
from tests.faults.training.training import Loop
from torch import Tensor

__all__ = ["VALUES_AND_ENDS"]

T, B = 20, 8


def bad_value(cell: str, task: str, optimizer: Optimizer, at: int, value: float) -> (
    Callable[[int, bool], Loop]
):  # fmt: skip
    """One value of the data is not a number, in one batch."""

    def build(seed: int, faulty: bool) -> Loop:
        torch.manual_seed(seed)
        usual = TASKS[task](seed, T=T, B=B)

        def batch(step: int) -> tuple[Tensor, Tensor]:
            x, target = usual(step)
            if step == at and faulty:
                x = x.clone()
                x[3, 7, 1] = value
            return x, target

        return Loop(step_reader(cell), batch, optimizer, steps=120)

    return build


def done(cell: str, optimizer: Optimizer, noise: float | None) -> Callable[[int, bool], Loop]:
    """A task that is solved, or fallen to the noise in its targets; the twin is on its way."""

    def build(seed: int, faulty: bool) -> Loop:
        torch.manual_seed(seed)
        batch = fixed_batch(seed, T=T, B=B)
        if noise is not None:
            batch = echo(seed, T=T, B=B, lag=1, noise=noise)
        return Loop(step_reader(cell), batch, optimizer, steps=300 if faulty else 60)

    return build


STAGNATED = "stagnated-training"

VALUES_AND_ENDS = (
    Fault("not finite", "NaN in the data, lstm",
          bad_value("lstm", "echo", adam(1e-2), 60, float("nan")), "nonfinite-value", "sudden"),
    Fault("not finite", "infinity in the data, rnn",
          bad_value("rnn", "echo", sgd(0.03), 45, float("inf")), "nonfinite-value", "sudden"),
    Fault("not finite", "NaN in the data, gru",
          bad_value("gru", "fixed", adam(1e-2), 90, float("nan")), "nonfinite-value", "sudden"),
    Fault("solved", "rnn", done("rnn", adam(2e-2), None), STAGNATED, "solved", severity="note"),
    Fault("solved", "gru", done("gru", adam(2e-2), None), STAGNATED, "solved", severity="note"),
    Fault("noise floor", "rnn", done("rnn", sgd(0.05), 1.0), STAGNATED, "noise-floor",
          severity="note"),
    Fault("noise floor", "lstm", done("lstm", adam(2e-2), 1.5), STAGNATED, "noise-floor",
          severity="note"),
)  # fmt: skip
