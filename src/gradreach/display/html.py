"""The table of layers and their curves, as a fragment of HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from gradreach.display.svg import curve_svg
from gradreach.display.table import HEADINGS, Row, factor

__all__ = ["page_fragment"]


def page_fragment(
    rows: Sequence[Row], curves: Mapping[str, NDArray[np.float64]], remarks: Sequence[str]
) -> str:
    """Return a table of the rows with each curve drawn below it; all text is escaped.

    Example:
        >>> row = Row("<rnn>", "tanh 8", 4, "2 of 4", 0.1, np.array([1.0, 0.1]))
        >>> "&lt;rnn&gt;" in page_fragment([row], {"<rnn>": row.curve}, [])
        True
    """
    head = "".join(f"<th>{escape(heading)}</th>" for heading in HEADINGS[:5])
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in (
            row.name, row.cell, str(row.steps), row.reach, factor(row.per_step)
        )) + "</tr>"
        for row in rows
    )  # fmt: skip
    drawn = "".join(
        f"<figure><figcaption>{escape(name)}</figcaption>"
        + curve_svg(curve, title=f"What is left of the gradient of {name}, by lag",
                    x_label="steps back", level=0.01)
        + "</figure>"
        for name, curve in curves.items()
        if len(curve)
    )  # fmt: skip
    listed = "".join(f"<p>{escape(remark)}</p>" for remark in remarks)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{drawn}{listed}"
