"""Histories whose every number is known."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradreach.records import Event, Finding, History, LayerSample, Sample


def layer(norms: Any, reach: int | None = 5) -> LayerSample:
    return LayerSample(
        kind="lstm",
        norms=np.asarray(norms, dtype=np.float64),
        lag_profile=np.array([1.0, 0.1]),
        reach=reach,
        decay_per_step=0.1,
        dead=0.0,
        saturated=0.0,
    )


def training(steps: int = 100, name: str = "rnn.l0", **rest: Any) -> History:
    """Return a training whose loss halves every ten steps, every second step clipped to 1."""
    rows = [
        {
            "step": step,
            "loss": 2.0 ** (-step / 10),
            "gradient_norm": 4.0 if step % 2 else 0.5,
            "clipped_norm": 1.0 if step % 2 else 0.5,
            "update_norm": 0.01,
            "weight_norm": 10.0,
            "learning_rate": 1e-3,
            "nonfinite": 0,
        }
        for step in range(steps)
    ]
    samples = tuple(
        Sample(step=step, number=step, reason="cadence",
               layers={name: layer(0.5 ** np.arange(20.0)[::-1], reach=7 + step // 50)})
        for step in range(0, steps, 50)
    )  # fmt: skip
    given = {
        "samples": samples,
        "events": (Event(kind="jump", step=12, text="the loss jumped"),),
        "meta": {"seconds": 12.5, "overhead": 0.031, "steps": steps},
    }
    return History.of(rows, **(given | rest))


def broken(steps: int = 100, at: int = 60) -> History:
    """Return the same training with a NaN from some step on."""
    sound = training(steps)
    columns = {name: column.copy() for name, column in sound.rows.items()}
    for name in ("loss", "gradient_norm", "clipped_norm", "update_norm"):
        columns[name][at:] = np.nan
    columns["nonfinite"][at:] = 9
    finding = Finding(code="nonfinite-value", severity="error", cause="NaN", counter_check="none")
    last = Sample(step=at, number=at, reason="jump", findings=(finding,),
                  layers={"rnn.l0": layer([1.0, np.nan, np.inf, 0.0], reach=None)})  # fmt: skip
    return History(rows=columns, samples=(*sound.samples, last), events=sound.events,
                   meta=sound.meta)  # fmt: skip
