"""A watched training as a fragment of HTML, for a notebook."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from gradreach.display.sparkline import sparkline
from gradreach.records.history_text import headline, lines_of

if TYPE_CHECKING:
    from gradreach.records.history import History

__all__ = ["history_fragment"]


def history_fragment(history: History) -> str:
    """Return a table of the quantities with their curves, then the events; all text is escaped.

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
    return f"<p>{escape(headline(history))}</p><table>{rows}</table><ul>{happened}</ul>"
