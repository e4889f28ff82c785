"""The same demo as plain data, for `gradreach demo --json`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradreach.cli.smallest import SmallestDemo
from gradreach.flow.scalar_bptt import terms
from gradreach.report.stretches import stretches

if TYPE_CHECKING:  # it imports torch; the one-neuron part is read meanwhile
    from gradreach.cli.next_word import NextWordRun, Stage, Text
    from gradreach.cli.place_language import PlaceRun, PlaceStage

__all__ = ["demo_as_plain"]


def demo_as_plain(
    demo: SmallestDemo,
    text: Text,
    runs: Sequence[NextWordRun],
    verdict: Sequence[str],
    *,
    places: Sequence[PlaceRun] = (),
    missing: str | None = None,
) -> dict[str, Any]:
    """Return the whole demo; a number that is not finite is None.

    Args:
        demo: The one-neuron part.
        text: What the networks were trained on.
        runs: One a cell.
        verdict: The sentences at its end.
        places: Place and language, one a cell.
        missing: Why that part was left out, where it was.

    Example:
        >>> from gradreach.cli.example import load_example
        >>> from gradreach.cli.next_word import load_text
        >>> from gradreach.cli.smallest import run_demo
        >>> demo = run_demo(steps=[3], seeds=[0], epochs=1)
        >>> sorted(demo_as_plain(demo, load_text(load_example("next_word")), [], []))
        ['models', 'place_language', 'schema_version', 'smallest', 'text', 'verdict']
    """
    return {
        "schema_version": 1,
        "smallest": _smallest(demo),
        "text": {"words": len(text.train), "different": len(text.vocabulary)},
        "models": [_model(run) for run in runs],
        "place_language": {
            "left_out": missing,
            "models": [_place_model(run) for run in places],
        },
        "verdict": list(verdict),
    }


def _smallest(demo: SmallestDemo) -> dict[str, Any]:
    return {
        "training": [
            {
                "seed": run.seed,
                "bias": run.bias,
                "most_correct": int(run.correct.max()),
                "learned_at": run.learned_at,
            }
            for run in (*demo.without_bias, *demo.with_bias)
        ],
        "products": [
            {
                "activation": run.activation,
                "w_in": run.weights.w_in,
                "w_h": run.weights.w_h,
                "steps": len(run.inputs),
                "log10_of_first": _finite(float(terms(run, "w_in").products.log10[0])),
            }
            for run in demo.passes
        ],
    }


def _model(run: NextWordRun) -> dict[str, Any]:
    return {
        "cell": run.cell,
        "name": run.name,
        "layers": run.layers,
        "hidden": run.hidden,
        "stages": [_stage(stage) for stage in (run.start, run.trained)],
    }


def _stage(stage: Stage) -> dict[str, Any]:
    return {
        "training_steps": stage.steps,
        "loss": _finite(stage.flow.loss),
        "findings": [finding.to_dict() for finding in stage.findings],
        "layers": [
            {
                "name": name,
                "reach": layer.reach(),
                "lags": len(layer.lag_profile),
                "decay_per_step": _finite(layer.decay_per_step),
                "lag_profile": [_finite(value) for value in layer.lag_profile.tolist()],
                "closure_error": {key: _finite(e) for key, e in layer.closure_error.items()},
                "last_word_shares": [
                    {"first": part.first, "last": part.last, "share": _finite(part.share)}
                    for part in stretches(stage.last_word.layers[name])
                ],
            }
            for name, layer in stage.flow.layers.items()
        ],
    }


def _place_model(run: PlaceRun) -> dict[str, Any]:
    return {
        "cell": run.cell,
        "name": run.name,
        "hidden": run.hidden,
        "stages": [_place_stage(stage) for stage in run.stages],
    }


def _place_stage(stage: PlaceStage) -> dict[str, Any]:
    return {
        "training_steps": stage.steps,
        "loss": _finite(stage.flow.loss),
        "reach": stage.layer.reach(),
        "left": _finite(stage.left),
        "findings": [finding.to_dict() for finding in stage.findings],
        "accuracy": [
            {
                "distance": distance,
                "place_to_language": accuracy.to_language,
                "language_to_place": accuracy.to_place,
                "majority": accuracy.majority,
            }
            for distance, accuracy in stage.accuracy.items()
        ],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
