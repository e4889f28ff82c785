"""What every task has in common: sequences, what to answer, and what an answer is worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "HELD_OUT_SEED",
    "Arrays",
    "Seed",
    "Task",
    "WithHeldOut",
    "check_size",
    "held_out",
    "seeded",
]

Array = NDArray[Any]
Arrays = tuple[Array, Array]
"""Inputs and targets of some sequences."""
Seed = int | tuple[int, ...]
"""What NumPy's generators are seeded with; a pair such as ``(run, step)`` names one batch."""
HELD_OUT_SEED = 999_983  # of what every run of a generated task is tested on; no run has it


class Task(Protocol):
    """Sequences whose answer depends on something a known number of steps back.

    A task is data and nothing else: it draws arrays from a seed, and says what a network's
    answers to them are worth. Where papers give one name to different tasks, ``variant`` says
    whose this one is.

    Attributes:
        name: As in ``gradreach train NAME``.
        variant: Whose definition it is, and what distinguishes it.
        steps: Length T of each sequence.
        needs_lag: Steps from the earliest input that matters to the answer.
        input_size: Channels of a step; for ``symbols``, how many different ones there are.
        symbols: Whether inputs are symbols (whole numbers below ``input_size``, to be shown
            one-hot or embedded) and not real numbers.
        output_size: Numbers, or scores of classes, that are answered at a step.
        classes: Whether a target is the number of a class and not a real number.
        first_answer: Step from which every step is answered; ``T - 1`` where only the last is.
        metric: Name of the number that decides, smaller is better.
        baseline: That number for the best answer that uses no memory.
        criterion: What each number of :meth:`score` must not exceed for the task to be solved;
            empty where the task is compared by its score only.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def variant(self) -> str: ...  # noqa: D102
    @property
    def steps(self) -> int: ...  # noqa: D102
    @property
    def needs_lag(self) -> int: ...  # noqa: D102
    @property
    def input_size(self) -> int: ...  # noqa: D102
    @property
    def symbols(self) -> bool: ...  # noqa: D102
    @property
    def output_size(self) -> int: ...  # noqa: D102
    @property
    def classes(self) -> bool: ...  # noqa: D102
    @property
    def first_answer(self) -> int: ...  # noqa: D102
    @property
    def metric(self) -> str: ...  # noqa: D102
    @property
    def baseline(self) -> float: ...  # noqa: D102
    @property
    def criterion(self) -> Mapping[str, float]: ...  # noqa: D102

    def batch(self, n: int, seed: Seed) -> Arrays:
        """Return ``n`` sequences and their targets; the same seed gives the same arrays.

        Shape:
            returns: inputs ``(B, T, I)``, or ``(B, T)`` for symbols; targets
            ``(B, T - first_answer)`` of classes or real numbers, ``(B,)`` for one class at the
            last step.
        """
        ...

    def score(self, answers: Array, targets: Array) -> dict[str, float]:
        """Say what answers are worth; :attr:`metric` is among the numbers.

        Shape:
            answers: ``(B, T - first_answer, O)``, or ``(B, O)`` where only the last step is
            answered. targets: as :meth:`batch` gives them.
        """
        ...


@runtime_checkable
class WithHeldOut(Protocol):
    """A task on real data, part of which is kept out of training."""

    def held_out(self, seed: Seed) -> Arrays:
        """Return all of that part; ``seed`` is for what is random about it, if anything."""
        ...


def held_out(task: Task, n: int = 10_000) -> Arrays:
    """Return what a task is tested on: its held-out data, or ``n`` sequences of a fixed seed.

    Example:
        >>> from gradreach.tasks.adding import Adding
        >>> held_out(Adding(20))[0].shape
        (10000, 20, 2)
    """
    if isinstance(task, WithHeldOut):
        return task.held_out(HELD_OUT_SEED)
    return task.batch(n, HELD_OUT_SEED)


def seeded(task: Task, n: int, seed: Seed) -> np.random.Generator:
    """Check what a batch is asked for; return the generator to draw it with.

    Raises:
        ValueError: ``n`` is below 1, or ``seed`` is negative.
    """
    where = f"{type(task).__name__}.batch()"
    if n < 1:
        raise ValueError(
            f"{where}: argument 'n' must be at least 1; got {n}: ask for one sequence or more"
        )
    if min(seed if isinstance(seed, tuple) else (seed,), default=0) < 0:
        raise ValueError(
            f"{where}: argument 'seed' must not be negative; got {seed}: use 0, 1, 2 …"
        )
    return np.random.default_rng(seed)


def check_size(task: object, argument: str, value: object, least: int, why: str) -> None:
    """Refuse a size that is no whole number of at least ``least``.

    Raises:
        ValueError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(
            f"{type(task).__name__}(): argument '{argument}' must be a whole number of at least "
            f"{least}; got {value!r}: {why}"
        )
