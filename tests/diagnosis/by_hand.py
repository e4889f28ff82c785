"""Records written by hand, so that a rule can be asked exactly at its threshold."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradreach.records import Gate, GradientFlow, LayerFlow
from gradreach.records.gradient_flow import Layers

__all__ = ["flow_of", "gate", "geometric", "layer"]


def geometric(factor: float, lags: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    return factor ** np.arange(lags, dtype=np.float64)


def layer(profile: Any, **fields: Any) -> LayerFlow:
    """Return a healthy tanh layer of 8 units and 2 rows with this lag profile."""
    profile = np.asarray(profile, dtype=np.float64)
    steps, units, rows = fields.pop("steps", max(len(profile), 1)), 8, 2
    name = fields.pop("name", "rnn.l0")
    values: dict[str, Any] = {
        "name": name,
        "module": name.partition(".")[0],
        "kind": "tanh",
        "source": "fused",
        "dtype": "float32",
        "reverse": False,
        "hidden_size": units,
        "lengths": np.full(rows, steps),
        "state_gradient_norms": np.ones(steps),
        "per_sample": np.ones((steps, rows)),
        "contributions": {"weight_hh_l0": np.ones(steps)},
        "shares": {"weight_hh_l0": np.full(steps, 1 / steps)},
        "closure_error": {"weight_hh_l0": 0.0},
        "closure_reference": {"weight_hh_l0": "backward"},
        "outside_gradient": {"weight_hh_l0": 0.0},
        "lag_profile": profile,
        "own_lag_profile": fields.get("lag_profile", profile),
        "lag_probes": (steps - 1,),
        "loss_steps": (steps - 1,),
        "saturation": np.zeros(units),
        "dead": np.zeros(units, dtype=bool),
        "gates": {},
        "constant_tails": np.full(rows, steps),
        "tail_gradient_share": 0.0,
        "tail_one_value": 1.0,
        "tail_value_elsewhere": 0.0,
    }
    return LayerFlow(**(values | fields))


def gate(*openness: float) -> Gate:
    per_unit = np.array(openness)
    return Gate(per_unit, np.full(3, per_unit.mean()))


def flow_of(*layers: LayerFlow, **fields: Any) -> GradientFlow:
    return GradientFlow(layers=Layers({each.name: each for each in layers}),
                        **({"loss": 1.0} | fields))  # fmt: skip
