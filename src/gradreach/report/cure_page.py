"""The page of a cure: verdict, picture with every seed, table, lines to change, how measured."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

from gradreach import __version__
from gradreach.display.dots import dots_svg
from gradreach.records.comparison import Comparison
from gradreach.records.comparison_text import cells_of
from gradreach.records.finding import Finding
from gradreach.records.standing import Standing
from gradreach.report.findings import Found, groups
from gradreach.runs.files import write_whole

__all__ = ["render_cure", "write_cure"]

HEADS = ("treatment", "metric", "against control", "target met", "time", "reach", "findings")


def render_cure(
    title: str,
    verdict: str,
    findings: Sequence[Finding],
    comparison: Comparison | None,
    *,
    patch: str = "",
    notes: Sequence[str] = (),
    refused: Sequence[tuple[str, str]] = (),
    left: Sequence[str] = (),
) -> str:
    """Return the page: one file, no script, no network; all texts are escaped.

    Args:
        title: What was cured. verdict: The sentence that stands first.
        findings: Of the untreated run. comparison: The study, if there is one.
        patch: The lines to change. notes: How it was measured.
        refused: Treatments with the reason against them. left: Labels without room.

    Example:
        >>> "<h1>a &lt; b</h1>" in render_cure("a < b", "No treatment is needed.", [], None)
        True
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = files("gradreach.report").joinpath("templates/cure.html.j2").read_text("utf-8")
    return environment.from_string(text).render(
        title=title,
        verdict=verdict,
        picture="" if comparison is None else _picture(comparison),
        target=comparison is not None and comparison.criterion is not None,
        heads=HEADS if comparison is None else (HEADS[0], comparison.metric, *HEADS[2:]),
        rows=[] if comparison is None else [_row(each) for each in comparison.standings],
        seeds=[] if comparison is None else _seeds(comparison),
        winner=None if comparison is None else comparison.winner,
        patch=[(_kind(line), line) for line in patch.splitlines()],
        findings=[_finding(group) for group in groups([Found(each) for each in findings])],
        refused=refused,
        left=left,
        notes=[*notes, *_how(comparison)],
    )


def write_cure(path: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
    """Render the page and write it whole; see `render_cure` for the arguments.

    Raises:
        WriteError: The file cannot be written.
    """
    write_whole(path, render_cure(*args, **kwargs))


def _picture(comparison: Comparison) -> str:
    rows = [
        (each.treatment, [trial.metric for trial in comparison.full_trials(each.treatment)])
        for each in comparison.standings
        if each.seeds
    ]
    return dots_svg(
        rows,
        title=f"{comparison.metric} of each treatment, one dot a seed",
        x_label=f"{comparison.metric}, {'less' if comparison.direction == 'minimize' else 'more'} "
        "is better",
        level=comparison.criterion,
    )


def _row(standing: Standing) -> list[str]:
    reach = ", ".join(f"{name} {far:g}" for name, far in standing.reach.items())
    said = [f"gone: {', '.join(standing.gone)}"] if standing.gone else []
    said += [f"still: {', '.join(standing.remaining)}"] if standing.remaining else []
    said += [f"new: {', '.join(standing.new)}"] if standing.new else []
    return [*cells_of(standing), reach or "–", "; ".join(said) or "–"]


def _seeds(comparison: Comparison) -> list[list[str]]:
    """Return every full trial: the table beside the picture."""
    return [
        [
            each.treatment,
            str(trial.seed),
            f"{trial.metric:.4g}" if math.isfinite(trial.metric) else trial.outcome,
            f"{trial.steps:,}",
            f"{trial.seconds:.1f} s",
        ]
        for each in comparison.standings
        for trial in comparison.full_trials(each.treatment)
    ]


def _finding(group: Any) -> dict[str, Any]:
    return {
        "severity": group.finding.severity,
        "code": group.finding.code,
        "members": [(item.place, item.finding.cause) for item in group.members],
    }


def _kind(line: str) -> str:
    if line.startswith(("---", "+++", "@@")):
        return "place"
    return {"+": "added", "-": "removed"}.get(line[:1], "same")


def _how(comparison: Comparison | None) -> list[str]:
    told = [f"gradreach {__version__}, Python {platform.python_version()}."]
    if comparison is None:
        return told
    meta, cost = comparison.meta, comparison.meta.get("cost", {})
    told.insert(
        0,
        f"{len(meta['seeds'])} seeds, {meta['threads']} thread(s) a trial; {cost.get('trials')} "
        f"trials took {cost.get('seconds', 0):.0f} s, those at the full length "
        f"{cost.get('seconds_of_full_runs', 0):.0f} s of it. An interval holds for all "
        "treatments at once.",
    )
    return told
