"""A comparison as a table in text."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradreach.records.comparison import Comparison
    from gradreach.records.standing import Standing

__all__ = ["COLUMNS", "cells_of", "comparison_text", "kept_words", "table_lines"]

WIDTH = 80
NAME = 30
COLUMNS = ("treatment", "metric", "against control", "met", "time")


def comparison_text(comparison: Comparison, width: int = WIDTH) -> str:
    """Return the table, a line for what did not finish, and the sentence.

    Example:
        >>> from gradreach.records.comparison import Comparison
        >>> from gradreach.records.standing import Standing
        >>> print(comparison_text(Comparison(
        ...     metric="loss", direction="minimize", criterion=None, trials=(), winner=None,
        ...     standings=(Standing(treatment="control", seeds=3, median=0.5),),
        ...     sentence="Nothing helped.")))
        treatment  loss  against control  met  time
        control    0.5   –                –    –
        Nothing helped.
    """
    told = textwrap.wrap(comparison.sentence, width, break_on_hyphens=False)
    return "\n".join([*table_lines(comparison, width), *told])


def table_lines(comparison: Comparison, width: int = WIDTH) -> list[str]:
    """Return the table alone."""
    rows = [tuple(cells_of(standing)) for standing in comparison.standings]
    head = (COLUMNS[0], comparison.metric, *COLUMNS[2:])
    rows = [tuple(_cut(cell, NAME) for cell in row) for row in (head, *rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [
        "  ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return [_cut(line, width) for line in lines]


def cells_of(standing: Standing) -> list[str]:
    """Return the cells of one line, in the order of :data:`COLUMNS`."""
    if standing.dropped is not None:
        return [standing.treatment, "–", f"dropped after {standing.dropped} steps", "–", "–"]
    failed = ", ".join(
        f"{count} × {outcome}"
        for outcome, count in standing.outcomes.items()
        if outcome != "finished" and count
    )
    effect = "–" if standing.effect is None else str(standing.effect)
    return [
        standing.treatment,
        _number(standing.median) + (f" ({failed})" if failed else ""),
        effect,
        "–" if standing.met is None else f"{standing.met} of {standing.seeds}",
        "–" if math.isnan(standing.relative_cost) else f"×{standing.relative_cost:.2g}",
    ]


def kept_words(standing: Standing) -> str:
    """Say which findings are gone, which remain, and which are new.

    Example:
        >>> from gradreach.records.standing import Standing
        >>> kept_words(Standing(treatment="a", seeds=1, gone=("vanishing-gradient",)))
        'gone: vanishing-gradient'
    """
    parts = [("gone", standing.gone), ("remaining", standing.remaining), ("new", standing.new)]
    return "; ".join(f"{name}: {', '.join(codes)}" for name, codes in parts if codes)


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3g}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
