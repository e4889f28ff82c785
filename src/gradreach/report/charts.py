"""Curves and heat maps as the page's own scripts draw them: few points, every extreme kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradreach.records.plain import Array

__all__ = ["MOST_POINTS", "chart", "chosen_rows", "heat_map", "heat_row", "told_values"]

Flags = NDArray[np.bool_]
Cell = int | str | None

MOST_POINTS = 2000  # of one curve, whatever was recorded
COLUMNS = 128  # of a heat map
DIGITS = 4


def chart(
    title: str,
    steps: Array,
    curves: Mapping[str, Array],
    broken: Flags,
    *,
    most: int = MOST_POINTS,
    x: str = "step",
) -> dict[str, Any]:
    """Return curves over the same steps as ``curves`` of ``charts.js`` draws them.

    Args:
        title: What is drawn.
        steps: ``(N,)``. curves: By name, ``(N,)`` each.
        broken: ``(N,)``, whether a NaN there is one; else it was not measured.
        most: Points kept at most.
        x: What the horizontal axis is.

    Example:
        >>> loss = np.array([2.0, np.nan, np.nan])
        >>> told = chart("Loss", np.arange(3.0), {"loss": loss}, np.array([0, 1, 0]) > 0)
        >>> told["steps"], told["series"]
        ([0, 1], [{'name': 'loss', 'values': [2.0, 'NaN']}])
    """
    at = chosen_rows(curves, broken, most)
    return {
        "title": title,
        "x": x,
        "log": "auto",
        "steps": [int(step) for step in steps[at]],
        "series": [
            {"name": name, "values": told_values(values[at], broken[at])}
            for name, values in curves.items()
        ],
    }


def chosen_rows(curves: Mapping[str, Array], broken: Flags, most: int) -> NDArray[np.int64]:
    """Return the rows to draw, rising: at most ``most``, every peak and every fault among them.

    Each stretch of rows keeps its first one and of every curve the least, the largest, and the
    first that is not finite. Rows in which no curve has anything are left out.

    Example:
        >>> wave = np.sin(np.arange(10_000.0))
        >>> wave[1234] = np.inf
        >>> at = chosen_rows({"wave": wave}, np.zeros(10_000, bool), 200)
        >>> len(at) <= 200, 1234 in at, int(np.nanargmin(wave)) in at
        (True, True, True)
    """
    values = np.stack([np.asarray(own, np.float64) for own in curves.values()])
    faulty = np.isinf(values) | (np.isnan(values) & broken)
    there = np.flatnonzero((~np.isnan(values) | faulty).any(0))
    if len(there) <= most:
        return there
    stretches = max(1, (most - 1) // (3 * len(values) + 1))
    edges = np.linspace(0, len(there), stretches + 1).astype(np.int64)
    kept = [there[edges[:-1]], there[-1:]]
    for own, wrong in zip(values[:, there], faulty[:, there], strict=True):
        finite = np.isfinite(own)
        for begin, end in pairwise(edges.tolist()):
            part, sound = own[begin:end], finite[begin:end]
            if sound.any():
                least = np.where(sound, part, np.inf).argmin()
                largest = np.where(sound, part, -np.inf).argmax()
                kept.append(there[begin + np.array([least, largest])])
            if wrong[begin:end].any():
                kept.append(there[begin + wrong[begin:end].argmax()][None])
    return np.unique(np.concatenate(kept))


def told_values(values: Array, broken: Flags) -> list[float | str | None]:
    """Return values as JSON may hold them: rounded; faults by name; ``None``: not measured.

    Example:
        >>> told_values(np.array([1 / 3, np.nan, -np.inf]), np.zeros(3, bool))
        [0.3333, None, '-Infinity']
    """
    told: list[float | str | None] = []
    for value, wrong in zip(values.tolist(), broken.tolist(), strict=True):
        if math.isfinite(value):
            told.append(float(f"{value:.{DIGITS}g}"))
        elif math.isnan(value):
            told.append("NaN" if wrong else None)
        else:
            told.append("Infinity" if value > 0 else "-Infinity")
    return told


def heat_map(
    title: str, rows: Sequence[Array], labels: Sequence[int], *, columns: int = COLUMNS
) -> dict[str, Any]:
    """Return rows of sizes as ``map`` of ``charts.js`` draws them, the longest row the widest.

    Example:
        >>> told = heat_map("a", [np.array([0.0, 0.1, 1.0, np.nan])], [7])
        >>> told["rows"], told["labels"], told["bundle"]
        ([['0', -20, 0, 'N']], [7], 1)
    """
    longest = max((len(row) for row in rows), default=1)
    bundle = max(1, math.ceil(longest / columns))
    told = [heat_row(row, bundle) for row in rows]
    return {"title": title, "rows": told, "labels": list(labels), "bundle": bundle}


def heat_row(row: Array, bundle: int) -> list[Cell]:
    """Return one row of cells: 20·log10 of the largest of ``bundle`` sizes, counted from the end.

    ``"0"``, ``"N"`` and ``"I"`` stand for zero, NaN and infinity; a NaN wins over all, so that
    nothing that is wrong disappears. The unit, a twentieth of a power of ten, is finer than
    the eye tells colours apart.

    Example:
        >>> heat_row(np.array([1.0, 10.0, 0.0]), 2)
        [0, 20]
        >>> heat_row(np.array([1.0, np.inf, 0.0]), 3)
        ['I']
    """
    values = np.asarray(row, np.float64)
    parts = np.concatenate([np.full(-len(values) % bundle, -1.0), values]).reshape(-1, bundle)
    merged = np.where(np.isnan(parts).any(1), np.nan, parts.max(1)) if parts.size else np.zeros(0)
    return [_cell(value) for value in merged.tolist()]


def _cell(size: float) -> Cell:
    if math.isnan(size):
        return "N"
    if math.isinf(size):
        return "I"
    return round(20 * math.log10(size)) if size > 0 else "0"
