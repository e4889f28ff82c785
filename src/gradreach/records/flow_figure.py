"""The figure of a gradient flow: three panels a layer, time running as the recurrence runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from gradreach.display.figure import (
    curve,
    level_line,
    name_axes,
    new_figure,
    place_line,
    whole_numbers,
)
from gradreach.records.plain import Array
from gradreach.records.reach import LEVEL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gradreach.records.layer_flow import LayerFlow

__all__ = ["MOST_LAYERS", "flow_figure"]

MOST_LAYERS = 6  # rows; a figure of more fits no page
WEIGHTS = 3  # curves of contributions in one panel


def flow_figure(layers: Mapping[str, LayerFlow], purpose: str) -> Figure:
    """Return lag profile, contributions and state gradients of each layer, a row a layer.

    Args:
        layers: What to draw, by name; at most `MOST_LAYERS`.
        purpose: The call that asks for it, for the error where matplotlib is missing.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ValueError: There is no layer, or there are too many.

    Example:
        >>> import torch, gradreach as gr
        >>> rnn, x = torch.nn.RNN(3, 16), torch.randn(50, 4, 3)
        >>> flow = gr.measure(rnn, lambda: rnn(x)[0][-1].square().mean())
        >>> [axes.get_xlabel() for axes in flow_figure(flow.layers, "a doctest").axes]
        ['steps back', 'timestep', 'timestep']
    """
    if not 0 < len(layers) <= MOST_LAYERS:
        raise ValueError(
            f"{purpose} draws 1 to {MOST_LAYERS} layers; got {len(layers)}: name some of them with "
            "layers=[…]"
        )
    figure, panels = new_figure(3 * len(layers), purpose=purpose, across=3)
    for row, (name, layer) in enumerate(layers.items()):
        profile, terms, states = panels[3 * row : 3 * row + 3]
        _draw_profile(profile, layer, name)
        _draw_terms(terms, layer)
        _draw_states(states, layer)
        whole_numbers(profile.xaxis, terms.xaxis, states.xaxis)
    return figure


def _draw_profile(axes: Axes, layer: LayerFlow, name: str) -> None:
    """Draw what is left of a loss step's gradient by lag, and mark from where it is nothing."""
    lags = np.arange(len(layer.lag_profile), dtype=np.float64)
    curve(axes, lags, layer.lag_profile, log=True)
    reach = layer.reach()
    level_line(axes, LEVEL, "1 %")
    if reach is not None and reach < len(lags):
        place_line(axes, reach, f"reach {reach}")
    elif reach is not None:
        axes.annotate(
            f"reaches all {reach}", (0.97, 0.95), xycoords="axes fraction", ha="right", va="top",
            fontsize=7,
        )  # fmt: skip
    name_axes(
        axes, "steps ahead" if layer.reverse else "steps back",
        "gradient left (lag 0: 1)", title=f"{name} ({layer.kind}, {layer.hidden_size})",
    )  # fmt: skip


def _draw_terms(axes: Axes, layer: LayerFlow) -> None:
    """Draw the size of each step's term of the weights' gradients."""
    drawn = {name: terms for name, terms in layer.contributions.items() if "bias" not in name}
    for index, (name, terms) in enumerate(list(drawn.items())[:WEIGHTS]):
        curve(axes, _steps(terms), terms, label=name, index=index, log=True)
    name_axes(axes, "timestep", "size of its term of ∂L/∂W", legend=bool(drawn))


def _draw_states(axes: Axes, layer: LayerFlow) -> None:
    """Draw the state gradient of every step, the batch's spread around it where there is one."""
    norms = layer.state_gradient_norms
    curve(axes, _steps(norms), norms, log=True)
    rows = np.asarray(layer.per_sample, dtype=np.float64)
    usable = np.where(np.isfinite(rows) & (rows > 0), rows, np.nan)
    if rows.ndim == 2 and rows.shape[1] > 1:
        some = ~np.isnan(usable).all(1)
        low, high = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
        low[some], high[some] = np.nanmin(usable[some], 1), np.nanmax(usable[some], 1)
        axes.fill_between(_steps(norms), low, high, color="#0072B2", alpha=0.18, linewidth=0)
    state = "(h, c)" if layer.kind == "lstm" else "h"
    name_axes(axes, "timestep", f"‖∂L/∂s‖, s = {state}")


def _steps(values: Array) -> Array:
    return np.arange(len(values), dtype=np.float64)
