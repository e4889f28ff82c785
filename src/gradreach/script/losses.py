"""The losses of a running script: what it trains on, and what it evaluates without gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gradreach.script.data_seen import DataSeen

__all__ = ["TAIL", "Losses"]

# Torch's loss functions; the modules (nn.MSELoss …) call these.
FUNCTIONS = (
    "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "cross_entropy", "nll_loss",
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "ctc_loss", "kl_div",
    "gaussian_nll_loss", "poisson_nll_loss", "multi_margin_loss", "soft_margin_loss",
    "hinge_embedding_loss",
)  # fmt: skip
TAIL = 0.1
"""Share of the run whose losses are averaged. The last loss alone is noise: a batch's loss scatters
by some ten per cent, the mean of a tenth of 1,000 steps by one; the best one would reward scatter,
and a longer part would charge a treatment for how it began."""


class Losses:
    """Collects the training loss of each backward pass, and losses taken without gradients.

    Args:
        steps: Returns the optimizer steps made so far.
        factor: Returns what a loss was multiplied by before ``backward`` (``GradScaler``).

    Attributes:
        training: ``(step, loss)`` of each pass, unscaled.
        evaluations: ``(step, loss, held out)`` of each loss that one of torch's loss functions
            gave where no gradient was recorded; held out: on rows that were never trained on.
    """

    def __init__(self, steps: Callable[[], int], factor: Callable[[Any], float]) -> None:
        self.steps, self.factor = steps, factor
        self.training: list[tuple[int, float | Tensor]] = []
        self.evaluations: list[tuple[int, float | Tensor, bool | None]] = []
        self.data = DataSeen()
        self._undo: list[Callable[[], None]] = []
        self._trained: set[str] = set()  # loss functions that were called with gradients
        self._name = ""
        self._inside = False

    def start(self) -> None:
        """Listen; what is wrapped later than this stands outside of us."""
        self.data.start()
        self._replace(torch.autograd, "backward", self._backward)
        for name in FUNCTIONS:
            self._replace(functional, name, lambda own, name=name: self._function(name, own))

    def stop(self) -> None:
        """Leave torch as it was."""
        self.data.stop()
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()

    def _replace(self, where: Any, name: str, wrapper: Callable[..., Any]) -> None:
        own = getattr(where, name)
        ours = wraps(own)(wrapper(own))
        setattr(where, name, ours)

        def undo() -> None:
            if getattr(where, name) is ours:
                setattr(where, name, own)

        self._undo.append(undo)

    def _backward(self, own: Callable[..., Any]) -> Callable[..., Any]:
        def backward(tensors: Any, *args: Any, **options: Any) -> Any:
            if torch._C._current_graph_task_id() == -1:
                self._note(tensors)
            return own(tensors, *args, **options)

        return backward

    def _note(self, tensors: Any) -> None:
        parts = tensors if isinstance(tensors, list | tuple) else (tensors,)
        self.data.trained()
        if not all(isinstance(part, Tensor) and part.numel() == 1 for part in parts):
            return
        total = sum(_number(part) for part in parts) / self.factor(tensors)
        self.training.append((self.steps(), total))

    def _function(self, name: str, own: Callable[..., Any]) -> Callable[..., Any]:
        def loss(*args: Any, **options: Any) -> Any:
            if self._inside or torch.compiler.is_compiling():
                return own(*args, **options)
            self._inside = True  # cross_entropy calls nll_loss, say
            try:
                value = own(*args, **options)
            finally:
                self._inside = False
            if isinstance(value, Tensor) and value.numel() == 1:
                if value.requires_grad:
                    self._trained.add(name)
                elif not torch.is_grad_enabled() and name in self._trained:
                    # Of a function that is trained by, too: another one may be a mere statistic.
                    held_out = self.data.evaluated()
                    self.evaluations.append((self.steps(), _number(value), held_out))
            return value

        return loss

    # ---- what they come to

    def training_tail(self, total: int) -> float:
        """Return the mean training loss of the last tenth of so many steps; NaN without any."""
        first = total - max(1, math.ceil(TAIL * total))
        return _mean([_value(loss) for step, loss in self.training if step >= first])

    def held_out_tail(self, total: int) -> float:
        """Return the mean over the evaluations of the last tenth; of the last round at least.

        Evaluations on data that was trained on are left out.
        """
        kept = [(step, _value(loss)) for step, loss, out in self.evaluations if out is not False]
        if not kept:
            return math.nan
        first = min(total - math.ceil(TAIL * total), kept[-1][0])
        return _mean([loss for step, loss in kept if step >= first])

    @property
    def known_held_out(self) -> bool:
        """Whether all that counts of the evaluations was on data never trained on."""
        kept = [out for _, _, out in self.evaluations if out is not False]
        return bool(kept) and all(kept)

    def fresh(self, total: int) -> bool:
        """Whether what the last tenth was trained on had never been trained on before."""
        passes = self.data.share[-max(1, len(self.data.share) // 10) :]
        known = [share for share in passes if not math.isnan(share)]
        # A few rows may be drawn twice; an epoch that begins again shows rows by the hundred.
        return bool(known) and sum(known) / len(known) < 0.05

    def curve(self, points: int = 200) -> tuple[list[int], list[float]]:
        """Return the training loss over the steps, averaged over so many stretches at most."""
        many = max(1, math.ceil(len(self.training) / points))
        steps, values = [], []
        for begin in range(0, len(self.training), many):
            part = self.training[begin : begin + many]
            steps.append(part[-1][0] + 1)
            values.append(_mean([_value(loss) for _, loss in part]))
        return steps, values

    def held_out_curve(self) -> tuple[list[int], list[float]]:
        """Return the evaluations by step, those at one step averaged."""
        rounds: dict[int, list[float]] = {}
        for step, loss, out in self.evaluations:
            if out is not False:
                rounds.setdefault(step, []).append(_value(loss))
        return list(rounds), [_mean(values) for values in rounds.values()]


def _number(value: Tensor) -> float | Any:
    """Return a number now where that costs nothing; on a GPU it would wait for it."""
    kept = value.detach()
    return float(kept) if kept.device.type == "cpu" else kept.clone()


def _value(number: float | Tensor) -> float:
    return float(number)


def _mean(values: list[float]) -> float:
    return (
        math.fsum(values) / len(values)
        if all(map(math.isfinite, values)) and values
        else (math.nan)
    )
