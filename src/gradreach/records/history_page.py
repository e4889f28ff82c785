"""A watched training as a fragment of HTML, for a notebook."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np

from gradreach.display.sparkline import sparkline
from gradreach.display.step_curves import step_curves_svg
from gradreach.records.history_text import broken_steps, headline, lines_of

if TYPE_CHECKING:
    from gradreach.records.history import History

__all__ = ["history_fragment"]


def history_fragment(history: History) -> str:
    """Return the loss as a picture, a table of all quantities, then the events; text is escaped.

    Example:
        >>> from gradreach.records import History
        >>> "<td>4 → 2</td>" in history_fragment(History.of([{"loss": 4.0}, {"loss": 2.0}]))
        True
    """
    rows = "".join(
        f"<tr><th>{escape(line.name)}</th><td>{escape(line.span)}</td>"
        f"<td>{sparkline(line.values, log=line.log)}</td><td>{escape(line.remark)}</td></tr>"
        for line in lines_of(history)
    )
    happened = "".join(f"<li>{escape(str(event))}</li>" for event in history.events[:20])
    return (
        f"<p>{escape(headline(history))}</p>{_picture(history)}<table>{rows}</table>"
        f"<ul>{happened}</ul>"
    )


def _picture(history: History) -> str:
    """Return the loss by step; nothing where it was not seen."""
    loss, steps = history["loss"], history["step"]
    if np.isnan(loss).all():
        return ""
    if not np.isfinite(steps).all():
        steps = np.arange(len(history), dtype=np.float64)
    return step_curves_svg(
        steps, {"loss": loss}, title="Loss by optimizer step", broken=broken_steps(history)
    )
