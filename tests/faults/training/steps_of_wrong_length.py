"""Learning rates too high and too low, momentum that swings, single updates that explode."""

from __future__ import annotations

from collections.abc import Callable

import torch
from tests.faults.training.fault import Fault, Optimizer, adam, rmsprop, sgd
from tests.faults.training.tasks import TASKS, step_reader
from tests.faults.training.training import Loop
from torch import Tensor, nn

__all__ = ["WRONG_STEPS"]

T, B = 20, 8


def model(seed: int, cell: str) -> nn.Module:
    torch.manual_seed(seed)
    return step_reader(cell)


def rate(
    cell: str, task: str, wrong: Optimizer, right: Optimizer, steps: int = 120
) -> Callable[[int, bool], Loop]:
    def build(seed: int, faulty: bool) -> Loop:
        batch = TASKS[task](seed, T=T, B=B)
        return Loop(model(seed, cell), batch, wrong if faulty else right, steps=steps)

    return build


def outlier(cell: str) -> Callable[[int, bool], Loop]:
    """One batch in 120 with targets 3,000 times too large; the twin clips."""

    def build(seed: int, faulty: bool) -> Loop:
        usual = TASKS["echo"](seed, T=T, B=B)

        def batch(step: int) -> tuple[Tensor, Tensor]:
            x, target = usual(step)
            return x, target * (3000.0 if step == 100 else 1.0)

        return Loop(model(seed, cell), batch, sgd(0.05), steps=120, clip=None if faulty else 1.0)

    return build


def alternating(cell: str) -> Callable[[int, bool], Loop]:
    """Batches sorted by class, alternately; the twin mixes both in each."""

    def build(seed: int, faulty: bool) -> Loop:
        usual = TASKS["echo"](seed, T=T, B=B)

        def batch(step: int) -> tuple[Tensor, Tensor]:
            x, _ = usual(step)
            side = torch.full((B,), 1.0 - 2.0 * (step % 2))
            if not faulty:
                side = 1.0 - 2.0 * (torch.arange(B) % 2)
            return x, side[:, None, None].expand(B, T, 1) * 1.0

        return Loop(model(seed, cell), batch, sgd(0.15), steps=120)

    return build


def blocks(cell: str) -> Callable[[int, bool], Loop]:
    """Data sorted by class, twelve batches of one after twelve of the other; the twin shuffles."""

    def build(seed: int, faulty: bool) -> Loop:
        usual = TASKS["echo"](seed, T=T, B=B)

        def batch(step: int) -> tuple[Tensor, Tensor]:
            x, _ = usual(step)
            side = torch.full((B,), 1.0 - 2.0 * (step // 12 % 2))
            if not faulty:
                side = 1.0 - 2.0 * (torch.arange(B) % 2)
            return x, side[:, None, None].expand(B, T, 1) * 1.0

        return Loop(model(seed, cell), batch, sgd(0.03), steps=160)

    return build


HIGH = "learning-rate-too-high"
LOW = "learning-rate-too-low"
OSCILLATES = "oscillating-loss"

WRONG_STEPS = (
    Fault("rate too high", "Adam 3, lstm", rate("lstm", "echo", adam(3.0), adam(1e-2)), HIGH),
    Fault("rate too high", "Adam 1, rnn", rate("rnn", "echo", adam(1.0), adam(1e-2)), HIGH),
    Fault("rate too high", "Adam 10, gru", rate("gru", "fixed", adam(10.0), adam(1e-2)), HIGH),
    Fault("rate too high", "RMSprop 0.3, rnn",
          rate("rnn", "fixed", rmsprop(0.3), rmsprop(1e-3)), HIGH),
    Fault("rate too high", "RMSprop 3, lstm",
          rate("lstm", "fixed", rmsprop(3.0), rmsprop(3e-3)), HIGH),
    Fault("rate too high", "SGD 3, rnn", rate("rnn", "echo", sgd(3.0), sgd(0.03)), HIGH),
    Fault("rate too high", "momentum, SGD 1, gru",
          rate("gru", "fixed", sgd(3.0, 0.9), sgd(0.03, 0.9)), HIGH),
    Fault("rate too low", "Adam 1e-5, lstm", rate("lstm", "echo", adam(1e-5), adam(1e-2)), LOW),
    Fault("rate too low", "Adam 3e-5, rnn", rate("rnn", "fixed", adam(3e-5), adam(1e-2)), LOW),
    Fault("rate too low", "SGD 1e-4, gru", rate("gru", "fixed", sgd(1e-4), sgd(0.3)), LOW),
    Fault("rate too low", "SGD 1e-5, rnn", rate("rnn", "echo", sgd(1e-5), sgd(0.03)), LOW),
    Fault("rate too low", "RMSprop 1e-5, lstm",
          rate("lstm", "fixed", rmsprop(1e-5), rmsprop(3e-3)), LOW),
    Fault("exploding update", "outlier, rnn", outlier("rnn"), "exploding-update"),
    Fault("exploding update", "outlier, lstm", outlier("lstm"), "exploding-update"),
    Fault("contradiction", "sorted batches, gru", alternating("gru"), "stagnated-training",
          "batches-contradict", also=("oscillating-loss", "batches")),
    Fault("contradiction", "sorted batches, rnn", alternating("rnn"), "stagnated-training",
          "batches-contradict", also=("oscillating-loss", "batches")),
    Fault("oscillation", "data sorted in blocks, gru", blocks("gru"), OSCILLATES, "batches"),
    Fault("oscillation", "data sorted in blocks, lstm", blocks("lstm"), OSCILLATES, "batches"),
)  # fmt: skip
