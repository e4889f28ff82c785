"""What the report shows of one layer in one measured pass."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from gradreach.display.step_curves import COLOURS, step_curves_svg
from gradreach.display.svg import curve_svg
from gradreach.display.table import factor
from gradreach.display.visible import visible
from gradreach.records import LayerFlow
from gradreach.records.jacobian_summary import JacobianSummary
from gradreach.records.plain import Array
from gradreach.records.reach import LEVEL
from gradreach.report.sentences import percent, reach_sentence
from gradreach.report.stretches import recurrent_weight, stretches

__all__ = ["layer_view"]

LAGS_SHOWN = (0, 1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500, 1000)  # and the last one
JACOBIAN_SECONDS = 0.05  # a page is not kept waiting longer for what nobody has asked for yet
ROWS = 8


def layer_view(layer: LayerFlow, last: LayerFlow | None, unit: str) -> dict[str, Any]:
    """Return what the template shows of one layer; every text in it is still to be escaped.

    Args:
        layer: As it was measured.
        last: The same layer measured with the loss of the last step alone, if it was.
        unit: What a time step is to the reader, singular.
    """
    reach = layer.reach(LEVEL)
    profile = layer.lag_profile
    ahead = "ahead" if layer.reverse else "back"
    name = visible(layer.name)
    pictures = [*_by_step(layer, unit), *_growth(layer, unit), *_gates(layer, unit)]
    if last is not None:
        pictures = [*_by_distance(last, unit), *pictures]
    return {
        "name": layer.name,
        "cell": f"{layer.kind}, {layer.hidden_size} units, {layer.steps} {unit}s, "
        f"{layer.batch} sequence{'s' if layer.batch > 1 else ''}",
        "sentence": reach_sentence(layer, unit=unit).removeprefix(f"{layer.name}: "),
        "decay": factor(layer.decay_per_step),
        "profile": curve_svg(
            profile,
            title=f"What is left of the gradient of {name}, by {unit}s {ahead}",
            x_label=f"{unit}s {ahead}",
            level=LEVEL,
            marked=reach,
            marked_label=f"reach {reach} of {len(profile)}",
        )
        if len(profile)
        else "",
        "shown_above": False,
        "lags": [(lag, _left(profile[lag])) for lag in _lags(profile)],
        "ahead": ahead,
        "pictures": pictures,
        "notes": [*layer.notes, *_units(layer)],
    }


def _lags(profile: Array) -> list[int]:
    if not len(profile):
        return []
    return sorted({lag for lag in LAGS_SHOWN if lag < len(profile)} | {len(profile) - 1})


def _left(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{100 * value:.3g} %"


def _picture(caption: str, svg: str, caption_beside: str = "", *table: Any) -> dict[str, Any]:
    """Return a picture with the table beside it: heads, then rows."""
    heads, rows = table or ([], [])
    return {
        "caption": caption,
        "svg": svg,
        "heads": heads,
        "table": rows,
        "table_caption": caption_beside,
    }


def _by_step(layer: LayerFlow, unit: str) -> Iterator[dict[str, Any]]:
    """Yield each step's term of the recurrent weight's gradient, where there is such a weight."""
    if not any(name.startswith("weight_hh") for name in layer.contributions):
        return
    weight = recurrent_weight(layer)
    many = len(layer.loss_steps) > 1
    caption = f"Size of each {unit}'s term in the gradient of {weight}, by position"
    if many:
        caption += (
            f". Every {unit} has a loss of its own here: this tells early {unit}s from late "
            "ones, not near from far."
        )
    terms = np.asarray(layer.contributions[weight])
    shares = np.asarray(layer.shares[weight])
    svg = curve_svg(
        terms,
        title=f"Contributions to the gradient of {visible(layer.name)} {weight}, by position",
        x_label=f"{unit}, from the beginning of the sequence",
    )
    rows = [
        (str(at), f"{terms[at]:.3g}", percent(float(shares[at])) if at < len(shares) else "–")
        for at in _spread(len(terms))
    ]
    yield _picture(caption, svg, f"Some of the {unit}s", [unit, "size", "share"], rows)


def _by_distance(layer: LayerFlow, unit: str) -> Iterator[dict[str, Any]]:
    """Yield each step's term by its distance from the only loss step, with the stretches."""
    try:
        parts = stretches(layer)
    except ValueError:  # the last steps of the rows do not coincide, or no recurrent weight
        return
    weight = recurrent_weight(layer)
    position = layer.loss_steps[0]
    position = layer.steps - 1 - position if layer.reverse else position
    yield _picture(
        f"Size of each {unit}'s term in the gradient of {weight}, by distance, when the loss "
        f"reads the last {unit} alone",
        curve_svg(
            np.asarray(layer.contributions[weight][position::-1]),
            title=f"Contributions to the gradient of {visible(layer.name)} {weight}, by distance",
            x_label=f"{unit}s before the loss",
        ),
        "Share of the gradient",
        [f"{unit}s back", "share"],
        [(part.label, percent(part.share)) for part in parts],
    )


def _growth(layer: LayerFlow, unit: str) -> Iterator[dict[str, Any]]:
    """Yield how much each step's Jacobian stretches, where that is known or quickly computed."""
    found = _jacobian(layer)
    if found is None or not len(found.sequences) or np.isnan(found.largest).all():
        yield from _factors(layer, unit)
        return
    curves = {"largest": _rows_mean(found.largest)}
    if not np.isnan(found.median).all():
        curves["median"] = _rows_mean(found.median)
    steps = found.steps.astype(np.float64)
    svg = step_curves_svg(
        steps, curves, title=f"Singular values of ∂s_t/∂s_t-1 of {visible(layer.name)}",
        x_label=f"{unit}, from the beginning of the sequence",
    )  # fmt: skip
    rows = [
        (str(int(steps[at])), *(f"{values[at]:.3g}" for values in curves.values()))
        for at in _spread(len(steps))
    ]
    yield _picture(
        f"Growth of the Jacobian ∂s_t/∂s_t-1 (its singular values, mean over sequences): {found}",
        svg, f"Some of the {unit}s", [unit, *curves], rows,
    )  # fmt: skip


def _factors(layer: LayerFlow, unit: str) -> Iterator[dict[str, Any]]:
    """Yield what each step did to the gradient, where all of that comes from one loss step.

    It needs no Jacobian, and says what the Jacobians did in the one direction that matters here.
    """
    norms = np.asarray(layer.state_gradient_norms, np.float64)
    if len(layer.loss_steps) != 1 or len(norms) < 3 or not layer.exact:
        return
    with np.errstate(divide="ignore", invalid="ignore"):
        factors = norms[:-1] / norms[1:]
    if not np.isfinite(factors).any():
        return
    steps = np.arange(1.0, len(norms))
    svg = step_curves_svg(
        steps, {"factor": factors}, title=f"Factor of each {unit} of {visible(layer.name)}",
        x_label=f"{unit}, from the beginning of the sequence",
    )  # fmt: skip
    rows = [(str(int(steps[at])), f"{factors[at]:.3g}") for at in _spread(len(steps))]
    yield _picture(
        f"Growth by the Jacobian ∂s_t/∂s_t-1: factor ‖∂L/∂s_t-1‖ / ‖∂L/∂s_t‖ of each {unit}; 1 "
        "preserves, less fades, more explodes",
        svg, f"Some of the {unit}s", [unit, "factor"], rows,
    )  # fmt: skip


def _jacobian(layer: LayerFlow) -> JacobianSummary | None:
    """Return the summary where it was computed before, or is had in a moment; else none."""
    known = layer.derived.get("jacobian")
    if isinstance(known, JacobianSummary):
        return known
    if layer.states is None or layer.jacobian_cost().jacobian_seconds > JACOBIAN_SECONDS:
        return None
    return layer.jacobian


def _rows_mean(values: Array) -> Array:
    """Return the mean over the sequences that reach a step; NaN where none does."""
    there = ~np.isnan(values)
    counted = there.sum(1)
    sums = np.where(there, values, 0.0).sum(1)
    return np.where(counted > 0, sums / np.maximum(counted, 1), np.nan)


def _gates(layer: LayerFlow, unit: str) -> Iterator[dict[str, Any]]:
    """Yield how far each gate is open at each step."""
    gates = {letter: gate for letter, gate in layer.gates.items() if gate.per_step.size}
    if not gates:
        return
    curves = {f"gate {letter}": gate.per_step for letter, gate in gates.items()}
    drawn = dict(list(curves.items())[: len(COLOURS)])
    svg = step_curves_svg(
        np.arange(layer.steps, dtype=np.float64), drawn,
        title=f"Openness of the gates of {visible(layer.name)}, by position",
        x_label=f"{unit}, from the beginning of the sequence", log=False,
    )  # fmt: skip
    rows = [
        (letter, f"{gate.mean:.3g}", f"{gate.per_unit.min():.3g} to {gate.per_unit.max():.3g}")
        for letter, gate in gates.items()
    ]
    yield _picture(
        "Openness of the gates, mean over units and sequences: 0 is closed, 1 is open",
        svg, "Over all steps", ["gate", "mean", "units from … to"], rows,
    )  # fmt: skip


def _units(layer: LayerFlow) -> Iterator[str]:
    """Say how many units are saturated or dead, where that was measured."""
    if not layer.saturation.size:
        return
    count, dead = len(layer.saturation), int(np.asarray(layer.dead).sum())
    yield (
        f"{int(layer.saturated.sum())} of {count} units are saturated (φ' < 0.05 in at least 95 % "
        f"of steps and sequences), {dead} dead (φ' = 0 everywhere)."
    )


def _spread(count: int) -> list[int]:
    return sorted({round(place) for place in np.linspace(0, max(count - 1, 0), min(count, ROWS))})
