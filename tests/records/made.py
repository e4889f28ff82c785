"""One record of every kind, with every optional part filled in."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradreach.records import BlindSpot, Gate, GradientFlow, LayerFlow, NonFinite
from gradreach.records.gradient_flow import Layers

STEPS, ROWS, UNITS = 5, 2, 3


def layer(name: str = "rnn.l0", **fields: Any) -> LayerFlow:
    ragged = np.ones((STEPS, ROWS))
    ragged[3:, 1] = np.nan
    values: dict[str, Any] = {
        "name": name,
        "module": name.partition(".")[0],
        "kind": "lstm",
        "source": "fused",
        "dtype": "float32",
        "reverse": False,
        "hidden_size": UNITS,
        "lengths": np.array([5, 3]),
        "state_gradient_norms": np.array([1e-300, 0.0, np.nan, np.inf, 1.0]),
        "per_sample": ragged,
        "contributions": {"weight_ih_l0": np.ones(STEPS), "weight_hh_l0": np.arange(5.0)},
        "shares": {"weight_ih_l0": np.full(STEPS, np.nan), "weight_hh_l0": np.full(STEPS, 0.2)},
        "closure_error": {"weight_ih_l0": 1e-9, "weight_hh_l0": float("nan")},
        "closure_reference": {"weight_ih_l0": "backward", "weight_hh_l0": "replay"},
        "outside_gradient": {"weight_ih_l0": 0.0, "weight_hh_l0": float("inf")},
        "lag_profile": 0.1 ** np.arange(5.0),
        "own_lag_profile": np.zeros(0),
        "lag_probes": (4,),
        "loss_steps": (2, 4),
        "saturation": np.linspace(0, 1, UNITS),
        "dead": np.array([True, False, False]),
        "gates": {"f": Gate(np.array([0.1, 0.2, 0.9]), np.linspace(0, 1, STEPS))},
        "constant_tails": np.array([5, 1]),
        "tail_gradient_share": 0.25,
        "detached_steps": (3,),
        "transformed_steps": (1, 2),
        "nonfinite": NonFinite("state", 2, 1),
        "notes": ("told once",),
    }
    return LayerFlow(**(values | fields))


def flow(*layers: LayerFlow, **fields: Any) -> GradientFlow:
    given: dict[str, Any] = {
        "blind": (BlindSpot("decoder", "GRU", "it was not called"),),
        "loss": float("nan"),
        "notes": ("the loss is nan",),
        "meta": {"torch": "2.13.0", "pass_seconds": 0.1},
    }
    return GradientFlow(
        layers=Layers({each.name: each for each in layers or (layer(),)}), **(given | fields)
    )
