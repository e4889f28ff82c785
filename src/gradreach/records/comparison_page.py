"""A comparison as a fragment of HTML: the sentence, the table, every seed as a dot."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from gradreach.display.dot_rows import dot_rows_svg
from gradreach.records.comparison_text import COLUMNS, cells_of, kept_words
from gradreach.records.trial import CONTROL

if TYPE_CHECKING:
    from gradreach.records.comparison import Comparison

__all__ = ["comparison_fragment", "pairs_of"]


def comparison_fragment(comparison: Comparison) -> str:
    """Return the fragment; all text in it is escaped, and it needs nothing from elsewhere.

    Example:
        >>> from gradreach.records.comparison import Comparison
        >>> from gradreach.records.standing import Standing
        >>> page = comparison_fragment(Comparison(
        ...     metric="<loss>", direction="minimize", criterion=None, trials=(), winner=None,
        ...     standings=(Standing(treatment="control", seeds=0),), sentence="Nothing helped."))
        >>> "&lt;loss&gt;" in page
        True
    """
    heads = (COLUMNS[0], comparison.metric, *COLUMNS[2:], "findings")
    head = "".join(f"<th>{escape(each)}</th>" for each in heads)
    body = ""
    for standing in comparison.standings:
        cells = [*cells_of(standing), kept_words(standing)]
        won = ' style="font-weight:bold"' if standing.treatment == comparison.winner else ""
        body += f"<tr{won}>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
    rows = pairs_of(comparison)
    drawn = ""
    if rows:
        picture = dot_rows_svg(
            rows, title=f"{comparison.metric} of each seed, without and with treatment",
            x_label=f"{comparison.metric}: hollow without, filled with treatment, a line a seed",
            log=comparison.log_scale, level=comparison.criterion,
        )  # fmt: skip
        drawn = f"<figure>{picture}</figure>"
    return (
        f"<p><b>{escape(comparison.sentence)}</b></p><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>{drawn}"
    )


def pairs_of(comparison: Comparison) -> list[tuple[str, list[tuple[float, float]]]]:
    """Return for each treatment with full trials the metrics without and with it, by seed."""
    control = {trial.seed: trial.metric for trial in comparison.full_trials(CONTROL)}
    return [
        (
            standing.treatment,
            [
                (control[trial.seed], trial.metric)
                for trial in comparison.full_trials(standing.treatment)
                if trial.seed in control
            ],
        )
        for standing in comparison.standings
        if standing.treatment != CONTROL and standing.seeds
    ]
