"""The one training loop: batches, a loss, an optimizer, and what is measured on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

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

    def run(self, until: Callable[[Evaluation], bool] | None = None) -> Trained:
        """Train; the model and the optimizer are changed in place.

        Args:
            until: Asked after each evaluation; the run ends where it says so.

        Raises:
            ValueError: ``batches`` is an iterable without any batch.

        Cost:
            What the model costs: of a step of a small network the loop itself is some 10 µs.
        """
        began = time.perf_counter()
        losses: list[float] = []
        evaluations: list[Evaluation] = []
        source = self._source()
        broken, stopped = 0, None
        self.model.train()
        for step in range(self.steps):
            losses.append(self.take_step(source(step)))
            for tell in self.on_step:
                tell(step + 1, losses[-1])
            broken = 0 if np.isfinite(losses[-1]) else broken + 1
            if broken >= self.patience:
                stopped = "nonfinite"
                break
            if self.evaluate_every and (step + 1) % self.evaluate_every == 0:
                evaluations.append(self._evaluated(step + 1))
                if until is not None and until(evaluations[-1]):
                    stopped = "solved"
                    break
        if self.evaluate is not None and not (evaluations and evaluations[-1].step == len(losses)):
            evaluations.append(self._evaluated(len(losses)))
        seconds = time.perf_counter() - began
        return Trained(np.array(losses, np.float64), tuple(evaluations), seconds, stopped)

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

    def _evaluated(self, step: int) -> Evaluation:
        """Evaluate, and leave the modes of all modules as they were."""
        if self.evaluate is None:
            return Evaluation(step, {"metric": float("nan")})
        modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()
        try:
            with torch.no_grad():
                said = self.evaluate(self.model)
        finally:
            for module, mode in modes:
                module.training = mode
        named = said if isinstance(said, Mapping) else {"metric": said}
        return Evaluation(step, {name: float(value) for name, value in named.items()})


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
