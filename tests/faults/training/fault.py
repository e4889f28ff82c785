"""What one fault over training is: a small training with one wrong line, and its healthy twin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from tests.faults.training.training import Loop
from torch import nn

__all__ = ["Fault", "Optimizer", "adam", "rmsprop", "sgd"]

Optimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


@dataclass(frozen=True)
class Fault:
    """One kind of fault in one configuration.

    Args:
        kind: What is wrong; several configurations may share it.
        name: The configuration.
        build: `(seed, faulty)` to the loop; `faulty` changes one line.
        code: The first finding expected.
        because: What its numbers must name as the reason.
        carries: Where the training comes to a standstill by it, as it does in most seeds: the
            reason of the `stagnated-training` that it carries.
        also: Another code, and its reason, that say the same.
        severity: "note" where the finding is no alarm.
    """

    kind: str
    name: str
    build: Callable[[int, bool], Loop]
    code: str
    because: str | None = None
    carries: str | None = None
    severity: str = "warning"
    also: tuple[str, str] | None = None

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"


def sgd(rate: float, momentum: float = 0.0) -> Optimizer:
    return partial(torch.optim.SGD, lr=rate, momentum=momentum)


def adam(rate: float) -> Optimizer:
    return partial(torch.optim.Adam, lr=rate)


def rmsprop(rate: float) -> Optimizer:
    return partial(torch.optim.RMSprop, lr=rate)
