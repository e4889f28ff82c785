"""Histories written by hand, so that a rule over training can be asked exactly at its threshold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradreach.records import Finding, History, LayerSample, LineProbe, Sample

__all__ = ["SCALES", "found_in_batch", "history_of", "probe", "sample"]

SCALES = np.array([0.0, 0.01, 0.1, 1.0, 10.0, 100.0])


def history_of(loss: Sequence[float] | np.ndarray[Any, Any], **columns: Any) -> History:
    """Return a history with these losses; other columns are given, or those of a quiet training."""
    count = len(loss)
    usual = {
        "step": np.arange(count),
        "passes": 1.0,
        "gradient_norm": 1.0,
        "clipped_norm": 1.0,
        "update_norm": 0.01,
        "weight_norm": 10.0,
        "distance": 0.01 * np.arange(1, count + 1),
        "update_cosine": 0.5,
        "gradient_cosine": 0.5,
        "descent_cosine": 1.0,
        "learning_rate": 0.01,
        "nonfinite": 0.0,
        "clip_calls": 0.0,
        "clip_order": 0.0,
        "taken": 1.0,
    }
    rest = {name: columns.pop(name) for name in ("samples", "probes", "events", "needs_lag")
            if name in columns}  # fmt: skip
    given = {**usual, **columns, "loss": loss}
    rows = {name: np.broadcast_to(np.asarray(values, dtype=float), count).copy()
            for name, values in given.items()}  # fmt: skip
    return History(rows=rows, **rest)


def probe(step: int, along: Callable[[float], float], slope: float = -1.0) -> LineProbe:
    """Return a probe of a loss that is a function of the multiple of the step."""
    losses = np.array([along(float(scale)) for scale in SCALES])
    return LineProbe(step=step, scales=SCALES, losses=losses, slope=slope, mismatch=0.0)


def found_in_batch(code: str, severity: Any = "warning", layer: str = "rnn.l0") -> Finding:
    return Finding(code=code, severity=severity, layer=layer, cause=f"{code} in the batch",
                   counter_check="look again")  # fmt: skip


def sample(step: int, *findings: Finding) -> Sample:
    layer = LayerSample(kind="tanh", norms=np.ones(20), lag_profile=np.ones(20), reach=20,
                        decay_per_step=1.0, dead=0.0, saturated=0.0)  # fmt: skip
    return Sample(step=step, number=step, reason="cadence", layers={"rnn.l0": layer},
                  findings=findings)  # fmt: skip
