"""A table of sizes as coloured cells, inline SVG: rows of any length, zeros and faults marked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

__all__ = ["chosen_heat_rows", "heat_map_svg"]

Array = NDArray[np.float64]

LEFT, RIGHT, TOP, BOTTOM = 58, 10, 6, 66
WIDTH, CELL = 560, 5
MOST_ROWS, MOST_COLUMNS = 40, 128  # more make the page large, not the picture clearer
DECADES = 12  # below this share of the largest all sizes look alike
# From violet over green to yellow, as matplotlib's viridis: light means large, on any paper, and
# in greys as well.
SHADES = (
    "#440154", "#481668", "#482878", "#433e85", "#3b528b", "#31688e", "#2a788e", "#23898e",
    "#1f988b", "#22a884", "#35b779", "#54c568", "#7ad151", "#a5db36", "#d2e21b", "#fde725",
)  # fmt: skip
ZERO, NAN, INFINITE = "#000", "#d0c", "#e22"
FAULTS = (("zero", ZERO), ("NaN", NAN), ("infinite", INFINITE))


def heat_map_svg(
    rows: Sequence[Array], labels: Sequence[str], *, title: str, x_label: str, most: int = MOST_ROWS
) -> str:
    """Draw rows of sizes as cells, on one logarithmic scale of colour with its legend.

    Rows end at the same place, at the right; a shorter one begins later. Cells that are too many
    to be told apart are drawn together by their largest value, and by a NaN or an infinity among
    them: nothing that is wrong disappears. Of too many rows some are drawn, at about equal
    distances, those with a NaN or an infinity first.

    Args:
        rows: Each ``(T_i,)``, from the beginning of a sequence to its end, not negative.
        labels: One a row.
        x_label: What a column is, for the axis.
        most: Rows drawn at most.

    Example:
        >>> svg = heat_map_svg([np.array([0.0, 1e-3, 1.0, np.nan])], ["0"], title="a", x_label="t")
        >>> [svg.count(f'stroke="{shade}"') for shade in (ZERO, SHADES[-1], NAN, INFINITE)]
        [1, 1, 1, 0]
    """
    chosen = chosen_heat_rows(rows, most)
    steps = max((len(row) for row in rows), default=1)
    bundle = max(1, math.ceil(steps / MOST_COLUMNS))
    columns = max(1, math.ceil(steps / bundle))
    cells = [_bundled(rows[index], bundle) for index in chosen]
    low, high = _range(cells)
    cell = (WIDTH - LEFT - RIGHT) / columns
    tall = max(CELL, min(16, 120 // max(len(cells), 1)))
    height = TOP + tall * len(cells) + BOTTOM
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}" '
        'style="width:100%;max-width:44rem;height:auto" font-size="11" fill="currentColor">',
        f"<title>{escape(title)}</title>",
        f'<g transform="translate({LEFT} {TOP}) scale({cell:.6g} {tall}) translate(0 .5)" '
        'fill="none" shape-rendering="crispEdges">',
        *_paths(cells, columns, low, high),
        "</g>",
    ]
    for place in sorted({0, len(cells) // 2, len(cells) - 1}) if cells else []:
        parts.append(  # noqa: PERF401
            f'<text x="{LEFT - 6}" y="{TOP + tall * (place + 0.5) + 4:.1f}" text-anchor="end">'
            f"{escape(labels[chosen[place]])}</text>"
        )
    below = TOP + tall * len(cells) + 14
    for share in (0.0, 0.5, 1.0):
        at = LEFT + share * (WIDTH - LEFT - RIGHT)
        anchor = ("start", "middle", "end")[int(2 * share)]
        parts.append(
            f'<text x="{at:.0f}" y="{below}" text-anchor="{anchor}">'
            f"{round((steps - 1) * (share - 1)):d}</text>"
        )
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{below + 14}" text-anchor="middle">'
        f"{escape(x_label)}</text>"
    )
    return "".join([*parts, *_legend(low, high, below + 26), "</svg>"])


def chosen_heat_rows(rows: Sequence[Array], most: int) -> list[int]:
    """Return the rows to draw: of each stretch of them one, the first and the last among them."""
    chosen = []
    for stretch in np.array_split(np.arange(len(rows)), max(min(most, len(rows)), 1)):
        wrong = [index for index in stretch if not np.isfinite(rows[index]).all()]
        last = len(stretch) and stretch[-1] == len(rows) - 1
        chosen += (wrong or list(stretch[-1:] if last else stretch[:1]))[:1]
    return [int(index) for index in chosen]


def _bundled(row: Array, bundle: int) -> Array:
    """Return the largest of every ``bundle`` values, counted from the end; faults win."""
    values = np.asarray(row, dtype=np.float64)
    short = -len(values) % bundle
    parts = np.concatenate([np.full(short, -1.0), values]).reshape(-1, bundle)
    merged: Array = np.where(np.isnan(parts).any(1), np.nan, parts.max(1))
    return merged


def _range(cells: Sequence[Array]) -> tuple[float, float]:
    """Return the logarithms of the least and the largest size that have a shade of their own."""
    usable = [row[np.isfinite(row) & (row > 0)] for row in cells]
    sizes = np.concatenate([np.zeros(0), *usable])
    if not len(sizes):
        return -1.0, 0.0
    high = math.log10(sizes.max())
    return max(math.log10(sizes.min()), high - DECADES, -323.0), high


def _shades(row: Array, low: float, high: float) -> list[str]:
    with np.errstate(divide="ignore", invalid="ignore"):
        place = np.clip((np.log10(row) - low) / max(high - low, 1e-9), 0.0, 1.0)
    levels = np.minimum(np.nan_to_num(place) * len(SHADES), len(SHADES) - 1).astype(int)
    names = np.array(SHADES)[levels].astype(object)
    names[row == 0] = ZERO
    names[np.isnan(row)] = NAN
    names[np.isinf(row)] = INFINITE
    return [str(name) for name in names]


def _paths(cells: Sequence[Array], columns: int, low: float, high: float) -> list[str]:
    """Return one path a colour: neighbours of one colour are one stroke."""
    strokes: dict[str, list[str]] = {}
    for line, row in enumerate(cells):
        start, shades = columns - len(row), _shades(row, low, high)
        at = 0
        while at < len(shades):
            end = at
            while end < len(shades) and shades[end] == shades[at]:
                end += 1
            strokes.setdefault(shades[at], []).append(f"M{start + at} {line}h{end - at}")
            at = end
    return [f'<path stroke="{shade}" d="{"".join(runs)}"/>' for shade, runs in strokes.items()]


def _legend(low: float, high: float, top: float) -> list[str]:
    """Return the scale of colours with its ends, and what the colours beyond it mean."""
    parts = [f'<text x="{LEFT}" y="{top + 9:.0f}">{10**low:.1e}</text>']
    at = LEFT + 56
    for shade in SHADES:
        parts.append(f'<rect x="{at}" y="{top:.0f}" width="9" height="10" fill="{shade}"/>')
        at += 9
    parts.append(f'<text x="{at + 6}" y="{top + 9:.0f}">{10**high:.1e}</text>')
    at += 84
    for name, shade in FAULTS:
        parts.append(
            f'<rect x="{at}" y="{top:.0f}" width="10" height="10" fill="{shade}" '
            'stroke="currentColor" stroke-width=".5"/>'
            f'<text x="{at + 15}" y="{top + 9:.0f}">{name}</text>'
        )
        at += 62
    return parts
