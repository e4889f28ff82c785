"""Curves over the steps of a training as inline SVG, however many steps there are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape

import numpy as np
from numpy.typing import NDArray

from gradreach.display.line_path import line_path
from gradreach.display.svg_axes import RIGHT, SvgAxes

__all__ = ["COLOURS", "step_curves_svg", "thinned"]

Array = NDArray[np.float64]

LEFT, TOP = 58, 12
COLOURS = ("#27c", "#d70", "#2a8", "#a4c")  # readable on light and on dark paper
MOST = 240  # stretches drawn; each shows its smallest and its largest value
TICKS = 5
MOST_SIZE = 1e300  # an axis ends here; what is larger stands on its edge


def step_curves_svg(
    steps: Array,
    curves: Mapping[str, Array],
    *,
    title: str,
    broken: NDArray[np.bool_] | None = None,
    x_label: str = "optimizer step",
    log: bool | None = None,
    width: int = 560,
    height: int = 170,
) -> str:
    """Draw curves over the same steps, logarithmic where all values are positive.

    A NaN is passed over: it was not measured. Where ``broken`` says that a value is not finite,
    and at infinities, a red mark stands at the upper edge. Long curves are cut into stretches
    that show their smallest and largest value, so that no peak is lost.

    Args:
        steps: ``(N,)``. curves: by name, ``(N,)`` each; at most four.
        broken: ``(N,)``, whether something of the step is NaN or infinite.
        x_label: What a step is. log: Whether the axis is logarithmic; by default as above.

    Example:
        >>> loss = np.array([3.0, np.nan, 1.0, np.inf])
        >>> svg = step_curves_svg(np.arange(4.0), {"loss": loss}, title="Loss by step")
        >>> svg.count('fill="none"'), svg.count('stroke="#c33"')
        (1, 1)
    """
    marks = np.zeros(len(steps), bool) if broken is None else broken.astype(bool)
    for values in curves.values():
        marks = marks | np.isinf(values)
    curves = {name: _drawable(values) for name, values in curves.items()}
    finite = [values[np.isfinite(values)] for values in curves.values()]
    together = np.concatenate([np.zeros(0), *finite])
    if log is None:
        log = bool(len(together)) and bool((together > 0).all())
    ticks = _log_ticks(together) if log else _linear_ticks(together)
    low, high = (_place(ticks[0], log), _place(ticks[-1], log)) if ticks else (0.0, 1.0)
    first, last = (float(steps.min()), float(steps.max())) if len(steps) else (0.0, 0.0)

    axes = SvgAxes(width, height, LEFT, TOP, (first, max(last - first, 1)), low, high)
    parts = [axes.opening(title), axes.grid([(_place(t, log), f"{t:.3g}") for t in ticks])]
    for colour, values in zip(COLOURS, curves.values(), strict=False):
        at_steps, shown = thinned(steps, values)
        parts.append(_line(axes, at_steps, np.log10(shown) if log else shown, colour))
    parts += [
        f'<path d="M{at:.1f} {TOP}v-9" stroke="#c33" stroke-width="2"/>'
        for at in sorted({round(float(axes.x(step)), 1) for step in steps[marks]})
    ]
    parts += [
        axes.below(step, f"{step:,.0f}", "end" if step == last > first else "middle")
        for step in sorted({first, (first + last) // 2, last})
    ]
    return "".join([*parts, axes.named(x_label), *_legend(list(curves), width), "</svg>"])


def _line(axes: SvgAxes, steps: Array, heights: Array, colour: str) -> str:
    """Return a curve; one of a single point, which would be invisible, with a dot."""
    if not len(steps):
        return ""
    places = list(zip(axes.x(steps), axes.y(heights), strict=True))
    (px, py), single = places[0], len(places) == 1
    dot = f'<circle cx="{px:.1f}" cy="{py:.1f}" r="2.5" fill="{colour}"/>' if single else ""
    return dot + line_path(places, colour=colour, width=1.5)


def thinned(steps: Array, values: Array, most: int = MOST) -> tuple[Array, Array]:
    """Return the finite points of a curve; of a long one, two of each stretch: least and most.

    Example:
        >>> at, shown = thinned(np.arange(1000.0), np.sin(np.arange(1000.0)), most=10)
        >>> len(shown), float(shown.max().round(2)), float(shown.min().round(2))
        (20, 1.0, -1.0)
    """
    there = np.flatnonzero(np.isfinite(values))
    if len(there) > 2 * most:
        kept: list[int] = []
        for stretch in np.array_split(there, most):
            ends = {int(stretch[values[stretch].argmin()]), int(stretch[values[stretch].argmax()])}
            kept += sorted(ends)
        there = np.array(kept)
    return steps[there], values[there]


def _drawable(values: Array) -> Array:
    """Return values whose powers of ten and differences floats can hold."""
    near = np.where(np.isfinite(values), np.clip(values, -MOST_SIZE, MOST_SIZE), values)
    return np.where((near > 0) & (near < 1 / MOST_SIZE), 1 / MOST_SIZE, near)


def _place(value: float, log: bool) -> float:
    return math.log10(value) if log else value


def _log_ticks(values: Array) -> list[float]:
    """Return powers of ten around the values; 1, 2 and 5 of them where they span little."""
    low, high = math.log10(values.min()), math.log10(values.max())
    if high - low <= 2:
        fine = [m * 10.0**p for p in range(math.floor(low), math.ceil(high) + 1) for m in (1, 2, 5)]
        return _around(fine, float(values.min()), float(values.max()))
    first, last = math.floor(low), math.ceil(high)
    stride = max(1, math.ceil((last - first) / TICKS))
    return [10.0**power for power in range(first, last + stride, stride)]


def _linear_ticks(values: Array) -> list[float]:
    if not len(values):
        return []
    low, high = float(values.min()), float(values.max())
    span = high - low or abs(high) or 1.0
    unit = 10.0 ** math.floor(math.log10(span))
    step = next(m * unit for m in (0.2, 0.5, 1, 2, 5, 10) if span / (m * unit) <= TICKS - 1)
    first = math.floor(low / step)
    return [place * step for place in range(first, max(math.ceil(high / step), first + 1) + 1)]


def _around(ticks: list[float], low: float, high: float) -> list[float]:
    """Return the ticks between the last one not above ``low`` and the first not below ``high``."""
    start = max(index for index, tick in enumerate(ticks) if tick <= low * (1 + 1e-12))
    stop = min((index for index, tick in enumerate(ticks) if tick >= high), default=len(ticks) - 1)
    return ticks[start : max(stop, start + 1) + 1]


def _legend(names: list[str], width: int) -> list[str]:
    """Return a mark and a name for each curve at the upper right, where there are several."""
    if len(names) < 2:
        return []
    told = "  ".join(
        f'<tspan fill="{colour}" font-weight="bold">━ </tspan>{escape(name)}'
        for colour, name in zip(COLOURS, names, strict=False)
    )
    return [f'<text x="{width - RIGHT}" y="{TOP + 11}" text-anchor="end">{told}</text>']
