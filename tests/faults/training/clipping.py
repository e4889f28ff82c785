"""Clipping in the wrong place, with the wrong threshold, or with one that sets every step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from tests.faults.training.fault import Fault, Optimizer, adam, sgd
from tests.faults.training.tasks import TASKS, step_reader
from tests.faults.training.training import Loop

__all__ = ["CLIPPING"]

T, B = 20, 8


def clipped(
    cell: str,
    task: str,
    optimizer: Optimizer,
    wrong: tuple[float, int],
    right: tuple[float, int],
    *,
    amp: bool = False,
) -> Callable[[int, bool], Loop]:
    """Clip at (threshold, place): place 1 is after backward, 2 before it, 3 before unscaling."""

    def build(seed: int, faulty: bool) -> Loop:
        torch.manual_seed(seed)
        threshold, order = wrong if faulty else right
        return Loop(step_reader(cell), TASKS[task](seed, T=T, B=B), optimizer, steps=120,
                    clip=threshold, clip_order=order, amp=amp)  # fmt: skip

    return build


CODE = "ineffective-clipping"

CLIPPING = (
    Fault("clip before backward", "Adam, lstm",
          clipped("lstm", "echo", adam(1e-2), (0.1, 2), (0.1, 1)), CODE, "before backward"),
    Fault("clip before backward", "SGD, rnn",
          clipped("rnn", "fixed", sgd(0.05), (0.5, 2), (0.5, 1)), CODE, "before backward"),
    Fault("clip before backward", "SGD, gru",
          clipped("gru", "fixed", sgd(0.3), (0.2, 2), (0.2, 1)), CODE, "before backward"),
    Fault("clip before unscale", "Adam, gru",
          clipped("gru", "fixed", adam(1e-2), (0.2, 3), (0.2, 1), amp=True), CODE,
          "before unscale"),
    Fault("clip before unscale", "SGD, lstm",
          clipped("lstm", "fixed", sgd(0.5), (0.2, 3), (0.2, 1), amp=True), CODE,
          "before unscale"),
    Fault("clip never reached", "Adam, rnn",
          clipped("rnn", "echo", adam(1e-2), (1e4, 1), (0.1, 1)), CODE, "never reached",
          severity="note"),
    Fault("clip never reached", "SGD, gru",
          clipped("gru", "fixed", sgd(0.3), (1e3, 1), (0.2, 1)), CODE, "never reached",
          severity="note"),
    Fault("clipped a hundredfold", "SGD, rnn",
          clipped("rnn", "echo", sgd(0.03), (1e-4, 1), (0.5, 1)), CODE,
          "always by a large factor"),
    Fault("clipped a hundredfold", "SGD, gru",
          clipped("gru", "fixed", sgd(0.3), (1e-5, 1), (0.2, 1)), CODE,
          "always by a large factor"),
    Fault("clipped a hundredfold", "SGD, lstm",
          clipped("lstm", "fixed", sgd(0.3), (1e-5, 1), (0.2, 1)), CODE,
          "always by a large factor"),
)  # fmt: skip
