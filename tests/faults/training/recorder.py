"""The history of a training as `gr.watch` records it, taken by hand inside a loop.

The fault set needs records that stand on their own definition: what a column means is written
here once more, in the plainest way, so that the rules and the watch can be held against it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import gradreach as gr
from gradreach.records import Event, History, LineProbe, Sample

__all__ = ["PROBE_SCALES", "Recorder", "is_probed", "is_sampled"]

PROBE_SCALES = (0.0, 0.01, 0.1, 1.0, 10.0, 100.0)


def is_sampled(step: int) -> bool:
    """Whether a step is looked at closely: the first three, then rarely, at constant ratios."""
    return step < 3 or step in (5, 8, 12, 20, 32, 50, 75) or (step >= 100 and step % 50 == 0)


def is_probed(step: int) -> bool:
    """Whether the loss along a step is looked at: more often, as it costs a few forward passes."""
    return step < 3 or step in (5, 8, 12) or step % 17 == 0


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().double().flatten() for tensor in tensors])


def cosine(one: Tensor | None, other: Tensor) -> float:
    if one is None:
        return math.nan
    size = float(one.norm() * other.norm())
    return float(one @ other) / size if 0 < size < math.inf else math.nan


class Recorder:
    """Collects rows, samples and probes; the loop says when each thing happens."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.model, self.optimizer = model, optimizer
        self.parameters = [each for each in model.parameters() if each.requires_grad]
        self.rows: list[dict[str, float]] = []
        self.samples: list[Sample] = []
        self.probes: list[LineProbe] = []
        self.events: list[Event] = []
        self._first = flat(self.parameters)
        self._update: Tensor | None = None
        self._gradient: Tensor | None = None
        self._row: dict[str, float] = {}

    def begin(self, loss: float) -> None:
        """Start the row of a step; `loss` is what backward is called on, unscaled."""
        self._row = {"step": float(len(self.rows)), "passes": 1.0, "loss": loss, "clip_calls": 0.0,
                     "clip_order": 0.0}  # fmt: skip

    def clip(self, order: int, threshold: float, seen: float) -> None:
        self._row |= {"clip_order": float(order), "clip_threshold": threshold, "clip_seen": seen}
        self._row["clip_calls"] += 1.0

    def gradient(self, name: str, scale: float = 1.0) -> None:
        """Note the gradient's norm: "gradient_norm" before clipping, "clipped_norm" after."""
        gradient = flat([each.grad for each in self.parameters if each.grad is not None]) / scale
        self._row[name] = float(gradient.norm())
        if name == "gradient_norm":
            self._row["nonfinite"] = float((~gradient.isfinite()).sum())
        else:
            self._row["gradient_cosine"] = cosine(self._gradient, gradient)
            self._gradient = gradient

    def step(self, take: Callable[[], Any]) -> None:
        """Take the optimizer step between a look before and one after."""
        before = flat(self.parameters)
        take()
        after = flat(self.parameters)
        update = after - before
        rate = max(group["lr"] for group in self.optimizer.param_groups)
        assert self._gradient is not None
        self._row |= {
            "update_norm": float(update.norm()),
            "weight_norm": float(before.norm()),
            "distance": float((after - self._first).norm()),
            "update_cosine": cosine(self._update, update),
            "descent_cosine": -cosine(self._gradient, update),
            "learning_rate": float(rate),
            "taken": float(bool(update.any())),
        }
        self._update = update
        self.rows.append(self._row)

    def sample(self, closure: Callable[[], Tensor], needs_lag: int | None) -> None:
        step = len(self.rows)
        try:
            flow = gr.measure(self.model, closure)
        except gr.NotMeasurableError as error:
            self.events.append(Event(kind="blind", step=step, text=str(error)))
            return
        reason = "cadence" if step else "start"
        findings = tuple(gr.diagnose(flow, needs_lag))
        self.samples.append(Sample.of(flow, step, step, reason, findings))

    @torch.no_grad()
    def probe(self, closure: Callable[[], Tensor], before: list[Tensor]) -> None:
        """Evaluate the step just taken at the scales, then put the weights back."""
        after = [each.detach().clone() for each in self.parameters]
        losses = []
        for scale in PROBE_SCALES:
            for parameter, old, new in zip(self.parameters, before, after, strict=True):
                parameter.copy_(old + scale * (new - old))
            losses.append(float(closure()))
        for parameter, new in zip(self.parameters, after, strict=True):
            parameter.copy_(new)
        assert self._gradient is not None and self._update is not None
        self.probes.append(
            LineProbe(step=len(self.rows) - 1, scales=np.array(PROBE_SCALES),
                      losses=np.array(losses), slope=float(self._gradient @ self._update),
                      mismatch=0.0)
        )  # fmt: skip

    def history(self, needs_lag: int | None = None) -> History:
        return History.of(self.rows, samples=tuple(self.samples), probes=tuple(self.probes),
                          events=tuple(self.events), needs_lag=needs_lag)  # fmt: skip
