"""What the report shows of a training over its steps: facts, curves, heat maps, events."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradreach.display.heat_map import chosen_heat_rows, heat_map_svg
from gradreach.display.step_curves import COLOURS, step_curves_svg
from gradreach.display.visible import visible
from gradreach.records import History, Sample
from gradreach.records.history_text import (
    broken_steps,
    headline,
    lines_of,
    number,
    reach_of,
    reaches,
)
from gradreach.records.plain import Array
from gradreach.report.charts import chart, heat_map

__all__ = ["training_view"]

Flags = NDArray[np.bool_]

LAYERS = 6  # heat maps: about 10 KB each, so that the page stays a small file
EVENTS = 40
ROWS = 8  # of a table beside a picture
POINTS = 400  # of a curve that can be explored: about 6 KB
CELLS = 5000  # of all heat maps that can be explored together: about 20 KB
RATIO = "size of the update by that of the weights"


def training_view(history: History, first: str | None = None) -> dict[str, Any]:
    """Return what the template shows of a history; every text in it is still to be escaped.

    ``data`` is what the page's scripts draw over the pictures, by the ids of the figures.

    Args:
        history: Of a training.
        first: The layer whose heat map stands first.

    Example:
        >>> view = training_view(History.of([{"step": 0, "loss": 2.0}, {"step": 1, "loss": 1.0}]))
        >>> view["headline"], [picture["caption"] for picture in view["pictures"]]
        ('2 recorded steps', ['Loss of each step'])
    """
    pictures = [*_curves(history), *_reaches(history)]
    maps = list(_maps(history, first))
    for kind, drawn in (("chart", pictures), ("map", maps)):
        for place, each in enumerate(drawn):
            each["id"] = f"{kind}-{place}"
    return {
        "headline": headline(history),
        "facts": [(line.name.strip(), line.span, line.remark) for line in lines_of(history)],
        "pictures": pictures,
        "maps": maps,
        "data": {
            "charts": {each["id"]: each.pop("data") for each in pictures},
            "maps": {each["id"]: each.pop("data") for each in maps},
        },
        "events": [str(event) for event in history.events[:EVENTS]],
        "more_events": max(0, len(history.events) - EVENTS),
    }


def _curves(history: History) -> Iterator[dict[str, Any]]:
    """Yield a picture for each quantity that was recorded."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = history["update_norm"] / history["weight_norm"]
    norms = {"gradient norm": history["gradient_norm"]}
    if not np.isnan(history["clipped_norm"]).all():
        norms = {"before clipping": norms["gradient norm"],
                 "as the optimizer got it": history["clipped_norm"]}  # fmt: skip
    for caption, curves in (
        ("Loss of each step", {"loss": history["loss"]}),
        ("Size of the gradient", norms),
        (RATIO[:1].upper() + RATIO[1:], {"update / weights": ratio}),
        ("Learning rate", {"learning rate": history["learning_rate"]}),
    ):
        if not all(np.isnan(values).all() for values in curves.values()):
            broken = broken_steps(history)
            if caption == "Learning rate":  # it stays what it is
                broken = np.zeros(len(history), bool)
            yield _picture(caption, _steps(history), curves, broken)


def _reaches(history: History) -> Iterator[dict[str, Any]]:
    """Yield the picture of how far back the gradient of each layer reached."""
    curves: dict[str, Array] = {}
    steps: Array = np.zeros(0)
    told = reaches(history)
    for name, seen in list(told.items())[: len(COLOURS)]:
        if all(reach is None for _, reach, _ in seen):
            continue
        own = {step: np.nan if reach is None else float(reach) for step, reach, _ in seen}
        steps = np.array(sorted({sample.step for sample in history.samples}), dtype=np.float64)
        curves[name] = np.array([own.get(int(step), np.nan) for step in steps])
    if curves:
        more = len(told) - len(COLOURS)
        beyond = f" (the first {len(COLOURS)} of {len(told)} layers)" if more > 0 else ""
        caption = "Reach: timesteps until less than 1 % of the gradient is left, in each sample"
        picture = _picture(caption + beyond, steps, curves, np.zeros(len(steps), bool))
        picture["data"]["log"] = False  # steps are counted, not multiplied
        yield picture


def _picture(
    caption: str, steps: Array, curves: Mapping[str, Array], broken: Any
) -> dict[str, Any]:
    measured = np.flatnonzero(~np.isnan(np.stack(list(curves.values()))).all(0) | broken)
    chosen = measured[_spread(len(measured))]
    marked = ". Red at the upper edge: not finite" if broken.any() else ""
    return {
        "caption": f"{caption}{marked}",
        "svg": step_curves_svg(
            steps,
            {visible(name): values for name, values in curves.items()},
            title=f"{caption}, by step",
            broken=broken,
        ),
        "data": chart(caption, steps, curves, broken, most=POINTS),
        "heads": ["step", *curves],
        "rows": [
            [f"{steps[at]:,.0f}", *(_cell(values[at], broken[at]) for values in curves.values())]
            for at in chosen
        ],
    }


def _maps(history: History, first: str | None) -> Iterator[dict[str, Any]]:
    """Yield each layer's heat map: a row a sample, a column a timestep."""
    names = list(dict.fromkeys(name for sample in history.samples for name in sample.layers))
    names.sort(key=lambda name: name != first)
    room = CELLS // max(min(len(names), LAYERS), 1)
    for name in names[:LAYERS]:
        samples = [sample for sample in history.samples if name in sample.layers]
        norms = [sample.layers[name].norms for sample in samples]
        own = [samples[at] for at in _spread(len(samples))]
        yield {
            "name": name,
            "kind": samples[-1].layers[name].kind,
            "svg": heat_map_svg(
                norms,
                [f"{sample.step:,}" for sample in samples],
                title=f"Size of the state gradient of {visible(name)}, by training step and "
                "timestep",
                x_label="timesteps from the end of the sequence",
                most=40 if name in names[:2] else 16,
            ),
            "data": _explored(name, samples, norms, room),
            "heads": ["step", "at its end", "in the middle", "at its beginning", "reach"],
            "rows": [_map_row(sample.step, sample.layers[name]) for sample in own],
            "notes": [f"Without a picture: {', '.join(names[LAYERS:])}."]
            if name == names[:LAYERS][-1] and names[LAYERS:]
            else [],
        }


def _explored(
    name: str, samples: Sequence[Sample], norms: Sequence[Array], room: int
) -> dict[str, Any]:
    """Return the heat map as the page's scripts draw it, of about ``room`` cells."""
    columns = min(96, max((len(row) for row in norms), default=1))
    at = chosen_heat_rows(norms, max(room // columns, 8))
    title = f"Size of the state gradient of {name}, by training step and timestep"
    return heat_map(title, [norms[k] for k in at], [samples[k].step for k in at], columns=columns)


def _map_row(step: int, layer: Any) -> list[str]:
    """Return a row of the table beside a heat map: what the colours say, in numbers."""
    norms = layer.norms
    places = (-1, len(norms) // 2, 0) if len(norms) else ()
    reach = "–" if reach_of(layer) is None else f"{layer.reach} of {len(norms)}"
    return [f"{step:,}", *(_cell(norms[place], True) for place in places), reach]


def _steps(history: History) -> Array:
    steps = history["step"]
    return np.arange(len(steps), dtype=np.float64) if np.isnan(steps).any() else steps


def _spread(count: int) -> list[int]:
    """Return some places at equal distances, the first and the last among them."""
    return sorted({round(place) for place in np.linspace(0, max(count - 1, 0), min(count, ROWS))})


def _cell(value: float, broken: bool) -> str:
    """Write a number; a NaN is one where something broke, else it was not measured."""
    if math.isnan(value):
        return "NaN" if broken else "–"
    return number(value)
