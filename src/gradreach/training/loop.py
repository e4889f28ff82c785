"""The one training loop: batches, a loss, an optimizer, and what is measured on the way."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from gradreach.training.checkpoint import (
    CheckpointError,
    Course,
    read_checkpoint,
    write_checkpoint,
)

__all__ = ["Evaluation", "Trained", "Training", "supervised"]

Loss = Callable[[nn.Module, Any], Tensor]
Score = float | Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What ``evaluate`` said after some optimizer steps.

    Args:
        step: Optimizer steps made before.
        scores: Its numbers by name; one number without a name is called ``"metric"``.
    """

    step: int
    scores: Mapping[str, float]

    @property
    def metric(self) -> float:
        """The first of the numbers, which decides."""
        return next(iter(self.scores.values()))


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """What one run of a :class:`Training` came to.

    Attributes:
        losses: ``(steps,)``, the loss before each optimizer step.
        evaluations: Oldest first.
        seconds: Of wall time, evaluations included.
        stopped: ``"nonfinite"`` where the loss stayed not finite and the run ended for it,
            ``"solved"`` where ``until`` said so, otherwise ``None``.
    """

    losses: NDArray[np.float64]
    evaluations: tuple[Evaluation, ...]
    seconds: float
    stopped: str | None = None

    @property
    def steps(self) -> int:
        """Optimizer steps made."""
        return len(self.losses)

    @property
    def metric(self) -> float:
        """What the last evaluation said; without any, the last loss; NaN after no step."""
        if self.evaluations:
            return self.evaluations[-1].metric
        return float(self.losses[-1]) if len(self.losses) else float("nan")


@dataclass(slots=True, eq=False)
class Training:
    """A training as data: all that is needed to run it, so that it can be run with changes.

    The loop is the plain one: zero the gradients, loss, backward, clip, step. It draws no
    random numbers of its own. :func:`gradreach.watch` can be put around :meth:`run` as around
    any loop, and :func:`gradreach.compare` runs it with treatments.

    Args:
        model: What is trained, on whatever device its parameters are.
        optimizer: Of the model's parameters.
        batches: Function of the step number, from 0, to a batch of whatever ``loss`` takes; or
            anything to iterate over, which begins anew when it ends (a ``DataLoader``, a list).
        loss: Function of the model and a batch to a scalar, see :func:`supervised`.
        steps: Optimizer steps to make, 0 or more.
        evaluate: Function of the model, which is in evaluation mode and under ``no_grad`` then,
            to a number, or to numbers by name of which the first one decides.
        evaluate_every: Steps between evaluations; without it there is one, at the end.
        clip: Threshold of ``clip_grad_norm_``, if any.
        scheduler: Its ``step()`` is called after each optimizer step.
        patience: Steps in a row with a loss that is not finite after which the run ends.

    Raises:
        ValueError: ``steps``, ``evaluate_every``, ``patience`` or ``clip`` is out of range.
        TypeError: ``batches`` is neither a function nor an iterable.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Linear(3, 1)
        >>> training = Training(
        ...     model=model,
        ...     optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        ...     batches=[(torch.eye(3), torch.ones(3, 1))],
        ...     loss=supervised(nn.functional.mse_loss),
        ...     steps=100,
        ...     evaluate=lambda model: float((model(torch.eye(3)) - 1).abs().max()),
        ... )
        >>> trained = training.run()
        >>> trained.steps, trained.metric < 0.01
        (100, True)
    """

    model: nn.Module
    optimizer: Optimizer
    batches: Callable[[int], Any] | Iterable[Any]
    loss: Loss
    steps: int
    evaluate: Callable[[nn.Module], Score] | None = None
    evaluate_every: int | None = None
    clip: float | None = None
    scheduler: Any = None
    patience: int = 10
    on_step: list[Callable[[int, float], None]] = field(default_factory=list)
    """Called with the number of steps made and the loss before the latest one."""

    def __post_init__(self) -> None:
        _check_count("steps", self.steps, 0)
        _check_count("patience", self.patience, 1)
        if self.evaluate_every is not None:
            _check_count("evaluate_every", self.evaluate_every, 1)
        if self.clip is not None and not self.clip > 0:
            raise ValueError(
                f"Training(): argument 'clip' must be above 0; got {self.clip!r}: leave it out for "
                "no clipping"
            )
        if not callable(self.batches) and not isinstance(self.batches, Iterable):
            raise TypeError(
                "Training(): argument 'batches' must be a function of the step number or an "
                f"iterable of batches; got {type(self.batches).__name__}: give a list of batches"
            )

    def run(
        self,
        until: Callable[[Evaluation], bool] | None = None,
        *,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: int = 1000,
    ) -> Trained:
        """Train; the model and the optimizer are changed in place.

        With ``checkpoint``, a run that was killed goes on from its last checkpoint when the same
        training is run again, and comes to the same bits as if nobody had disturbed it: weights,
        optimizer, schedule, losses, and where torch, NumPy and ``random`` stand are kept.

        Args:
            until: Asked after each evaluation; the run ends where it says so. When a run goes
                on, it is asked again about the evaluations that were made before.
            checkpoint: File to go on from, if it is there, and to write to.
            checkpoint_every: Steps between two checkpoints; one more is written at the end.

        Raises:
            ValueError: ``batches`` is an iterable without any batch; ``checkpoint_every`` is
                below 1.
            TypeError: A checkpoint is wanted, and ``batches`` is no function of the step number:
                only that can be taken up in the middle.
            CheckpointError: The file is damaged, or of another training.
            WriteError: The checkpoint cannot be written.

        Cost:
            What the model costs: of a step of a small network the loop itself is some 10 µs. A
            checkpoint is written in some milliseconds and as long as its bytes take.
        """
        began = time.perf_counter()
        course = Course() if checkpoint is None else self._taken_up(checkpoint, checkpoint_every)
        began -= course.seconds
        source = self._source()
        self.model.train()
        if until is not None and not course.stopped:
            for each in course.evaluations:
                until(Evaluation(*each))
        first = self.steps if course.stopped else len(course.losses)
        for step in range(first, self.steps):
            self._advance(step, source, course, until)
            if course.stopped:
                break
            if (step + 1) % checkpoint_every == 0:
                self._keep(checkpoint, course, began)
        done, made = len(course.losses), course.evaluations
        if self.evaluate is not None and not (made and made[-1][0] == done):
            made.append((done, self._evaluated()))
        self._keep(checkpoint, course, began)
        evaluations = tuple(Evaluation(*each) for each in made)
        losses = np.array(course.losses, np.float64)
        return Trained(losses, evaluations, course.seconds, course.stopped)

    def _advance(
        self,
        step: int,
        source: Callable[[int], Any],
        course: Course,
        until: Callable[[Evaluation], bool] | None,
    ) -> None:
        """Make one step, with what is due after it."""
        loss = self.take_step(source(step))
        course.losses.append(loss)
        for tell in self.on_step:
            tell(step + 1, loss)
        course.broken = 0 if np.isfinite(loss) else course.broken + 1
        if course.broken >= self.patience:
            course.stopped = "nonfinite"
        elif self.evaluate_every and (step + 1) % self.evaluate_every == 0:
            course.evaluations.append((step + 1, self._evaluated()))
            if until is not None and until(Evaluation(*course.evaluations[-1])):
                course.stopped = "solved"

    def _taken_up(self, checkpoint: str | os.PathLike[str], every: int) -> Course:
        """Return where a run stood, with everything put back there; else a beginning."""
        _check_count("checkpoint_every", every, 1)
        if not callable(self.batches):
            raise TypeError(
                "Training.run(): argument 'checkpoint' needs batches that are a function of the "
                f"step number; got {type(self.batches).__name__}, which cannot be taken up in the "
                "middle: give a function, such as lambda step: data[step % len(data)]"
            )
        course = read_checkpoint(checkpoint, self._parts()) or Course()
        if len(course.losses) > self.steps:
            raise CheckpointError(
                f"Training.run(): argument 'checkpoint' names a run of {len(course.losses)} steps, "
                f"more than the {self.steps} of this training: name another file"
            )
        return course

    def _keep(
        self, checkpoint: str | os.PathLike[str] | None, course: Course, began: float
    ) -> None:
        course.seconds = time.perf_counter() - began
        if checkpoint is not None:
            write_checkpoint(checkpoint, course, self._parts())

    def _parts(self) -> dict[str, Any]:
        """Return what changes in a training and can say so."""
        parts = {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler}
        return {name: part for name, part in parts.items() if hasattr(part, "state_dict")}

    def take_step(self, batch: Any) -> float:
        """Make one optimizer step on a batch; return the loss before it."""
        self.optimizer.zero_grad()
        loss = self.loss(self.model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()
        return loss.item()

    def _source(self) -> Callable[[int], Any]:
        if callable(self.batches):
            return self.batches
        stream = _again_and_again(self.batches)
        return lambda step: next(stream)

    def _evaluated(self) -> dict[str, float]:
        """Evaluate, and leave the modes of all modules as they were."""
        if self.evaluate is None:
            return {"metric": float("nan")}
        modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()
        try:
            with torch.no_grad():
                said = self.evaluate(self.model)
        finally:
            for module, mode in modes:
                module.training = mode
        named = said if isinstance(said, Mapping) else {"metric": said}
        return {name: float(value) for name, value in named.items()}


def supervised(criterion: Callable[[Tensor, Tensor], Tensor]) -> Loss:
    """Return the loss of batches ``(input, target)``: the criterion of the model's answer.

    Example:
        >>> loss = supervised(nn.functional.mse_loss)
        >>> loss(nn.Identity(), (torch.tensor([3.0]), torch.tensor([1.0])))
        tensor(4.)
    """

    def loss(model: nn.Module, batch: Any) -> Tensor:
        given, target = batch
        return criterion(model(given), target)

    return loss


def _again_and_again(batches: Iterable[Any]) -> Iterator[Any]:
    while True:
        empty = True
        for batch in batches:
            empty = False
            yield batch
        if empty:
            raise ValueError(
                "Training.run(): argument 'batches' gave no batch; give one with at least one, or "
                "a function of the step number (an iterator ends once: give a list)"
            )


def _check_count(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(
            f"Training(): argument '{name}' must be a whole number of at least {least}; got "
            f"{value!r}: such as {name}={max(least, 100)}"
        )
