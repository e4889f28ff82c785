"""Small journals of which every number is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gradreach.records import Event, Finding, LayerSample, LineProbe, Sample
from gradreach.runs.journal import JournalWriter

SPECIAL = (float("nan"), float("inf"), float("-inf"), -0.0, 5e-324, 1.7976931348623157e308, 1 / 3)


def row(step: int) -> dict[str, float]:
    """Return a row that no other step has; every seventh loss is one that breaks readers."""
    loss = SPECIAL[step // 7 % len(SPECIAL)] if step % 7 == 0 else 3.0 / (step + 1)
    return {"step": step, "loss": loss, "gradient_norm": step + 0.1, "learning_rate": 1e-3}


def sample(step: int) -> Sample:
    finding = Finding(
        code="vanishing-gradient",
        severity="warning",
        cause="the recurrence contracts",
        counter_check="double it",
        layer="rnn.l0",
    )
    layer = LayerSample(
        kind="tanh",
        norms=np.array([1e-300, 0.0, float("nan"), float("inf"), 1.0]),
        lag_profile=np.array([1.0, 0.1, 0.001]),
        reach=2,
        decay_per_step=0.03,
        dead=float("nan"),
        saturated=0.25,
    )
    return Sample(
        step=step, number=2 * step, reason="start", layers={"rnn.l0": layer}, findings=(finding,)
    )


def probe(step: int) -> LineProbe:
    return LineProbe(
        step=step,
        scales=np.array([0.0, 0.5, 1.0]),
        losses=np.array([1.0, 0.5, float("inf")]),
        slope=-2.0,
        mismatch=1e-6,
    )


def event(step: int) -> Event:
    numbers = {"threshold": float("inf"), "name": 'ΔW </script>\n"'}
    return Event(kind="clip", step=step, text="‖g‖ was clipped", numbers=numbers)


def write(folder: Path, rows: int = 20) -> Path:
    """Write a run with an entry of every kind."""
    with JournalWriter(folder, {"cost": "standard", "needs_lag": 30}) as journal:
        for step in range(rows):
            journal.row(row(step))
            if step == 3:
                journal.event(event(step))
            if step == 5:
                journal.sample(sample(step))
                journal.probe(probe(step))
        journal.meta({"every": 50})
        journal.close({"seconds": 1.5})
        return journal.path


def same(one: float, other: float) -> bool:
    """Whether two numbers have the same bits; NaN is NaN."""
    return bool(np.array_equal(np.float64([one]), np.float64([other]), equal_nan=True)) and (
        np.signbit(one) == np.signbit(other) or one != one
    )
