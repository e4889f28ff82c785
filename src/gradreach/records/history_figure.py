"""The figure of a watched training: loss, norms, learning rate, and the gradient over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradreach.display.figure import curve, heat_map, name_axes, new_figure, whole_numbers
from gradreach.records.history_text import reaches
from gradreach.records.plain import Array

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gradreach.records.history import History

__all__ = ["history_figure"]

MOST_LAYERS = 6  # curves of reaches in one panel; the rest of a deep model is left out


def history_figure(history: History, layer: str | None, purpose: str) -> Figure:
    """Return four panels over the optimizer steps; those without data are left out.

    Args:
        history: What was watched.
        layer: Whose heat map to draw; by default the first layer of the samples.
        purpose: The call that asks for it, for the error where matplotlib is missing.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ValueError: There is nothing to draw, or no sample of that layer.

    Example:
        >>> from gradreach.records import History
        >>> history = History.of([{"step": s, "loss": 0.9**s} for s in range(30)])
        >>> figure = history_figure(history, None, "a doctest")
        >>> figure.axes[0].get_ylabel()
        'loss'
    """
    known = list(dict.fromkeys(name for sample in history.samples for name in sample.layers))
    if layer is not None and layer not in known:
        raise ValueError(
            f"{purpose}: argument 'layer' must be one that was sampled "
            f"({', '.join(known) or 'none was'}); got {layer!r}"
        )
    chosen = layer if layer is not None else next(iter(known), None)
    panels: list[Callable[[Axes], None]] = []
    if _there(history["loss"]):
        panels.append(lambda axes: _draw_loss(axes, history))
    if _there(history["gradient_norm"]) or _there(history["clipped_norm"]):
        panels.append(lambda axes: _draw_norms(axes, history))
    if _there(history["learning_rate"]):
        panels.append(lambda axes: _draw_rate(axes, history))
    if chosen is not None:
        panels.append(lambda axes: _draw_map(axes, history, chosen))
        panels.append(lambda axes: _draw_reaches(axes, history))
    if not panels:
        raise ValueError(f"{purpose}: there is nothing to draw, as no step and no sample was kept")
    figure, places = new_figure(len(panels), purpose=purpose, across=2)
    for draw, axes in zip(panels, places, strict=True):
        draw(axes)
        whole_numbers(axes.xaxis)
    return figure


def _draw_loss(axes: Axes, history: History) -> None:
    loss = history["loss"]
    finite = loss[np.isfinite(loss)]
    log = bool(len(finite)) and bool((finite > 0).all()) and finite.max() > 20 * finite.min()
    curve(axes, _steps(history), loss, log=log, points=False)
    name_axes(axes, "optimizer step", "loss")


def _draw_norms(axes: Axes, history: History) -> None:
    """Draw ‖g‖ as backward left it and as the optimizer got it, and what was asked for."""
    steps, before, after = _steps(history), history["gradient_norm"], history["clipped_norm"]
    curve(axes, steps, before, label="before clipping", log=True, points=False)
    with np.errstate(invalid="ignore"):
        clipped = bool((after < 0.999 * before).any())
    if clipped:
        curve(axes, steps, after, label="after clipping", index=1, log=True, points=False)
    name_axes(axes, "optimizer step", "gradient norm ‖∂L/∂w‖", legend=clipped)


def _draw_rate(axes: Axes, history: History) -> None:
    rate = history["learning_rate"]
    finite = rate[np.isfinite(rate) & (rate > 0)]
    log = bool(len(finite)) and finite.max() > 20 * finite.min()
    curve(axes, _steps(history), rate, log=log, points=False)
    if not log:
        axes.set_ylim(bottom=0)
    name_axes(axes, "optimizer step", "learning rate")


def _draw_map(axes: Axes, history: History, layer: str) -> None:
    """Draw the state gradient of every sampled pass, sequences aligned at their last step."""
    # Of two samples at one step the later: an axis has one row for each.
    rows = {sample.step: sample.layers[layer].norms
            for sample in history.samples if layer in sample.layers}  # fmt: skip
    longest = max(len(norms) for norms in rows.values())
    sizes = np.ma.masked_array(np.zeros((len(rows), longest)), mask=True)
    for place, step in enumerate(sorted(rows)):
        if len(rows[step]):
            sizes[place, longest - len(rows[step]) :] = rows[step]
    heat_map(
        axes, sizes, np.arange(1.0 - longest, 1.0), np.array(sorted(rows), dtype=np.float64),
        x_label="timestep, from the last one", y_label="optimizer step",
        legend="log₁₀ ‖∂L/∂s‖",
    )  # fmt: skip
    axes.set_title(layer, fontsize=8, loc="left")
    whole_numbers(axes.yaxis)


def _draw_reaches(axes: Axes, history: History) -> None:
    told = reaches(history)
    for index, (name, seen) in enumerate(list(told.items())[:MOST_LAYERS]):
        values = np.array([np.nan if reach is None else reach for _, reach, _ in seen], np.float64)
        steps = np.array([step for step, _, _ in seen], dtype=np.float64)
        curve(axes, steps, values, label=name, index=index, points=len(steps) < 40)
    axes.set_ylim(bottom=0)
    name_axes(axes, "optimizer step", "reach, timesteps", legend=len(told) > 1)


def _steps(history: History) -> Array:
    """Return the steps of the rows; their numbers where none were recorded."""
    steps = history["step"]
    return steps if np.isfinite(steps).all() else np.arange(len(history), dtype=np.float64)


def _there(column: Array) -> bool:
    return bool((~np.isnan(column)).any())
