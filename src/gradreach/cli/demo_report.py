"""The report of `gradreach demo`: every measured stage, and what was found in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from gradreach.cli.demo_text import UNIT, when
from gradreach.cli.next_word import NextWordRun
from gradreach.cli.place_language import NEEDED, PlaceRun
from gradreach.records.finding import SEVERITIES
from gradreach.report.findings import Found
from gradreach.report.html import Section, write_report
from gradreach.report.sentences import verdict

__all__ = ["found_in", "write_demo_report"]

TITLE = "How far back the gradient of word prediction reaches"


def write_demo_report(
    path: Path,
    said: Sequence[str],
    runs: Sequence[NextWordRun],
    places: Sequence[PlaceRun],
    notes: Sequence[str],
) -> None:
    """Write the page; see `gradreach.report.html.write_report`.

    Args:
        path: The file to write.
        said: The verdict.
        runs: Next-word prediction, one a cell.
        places: Place and language, one a cell; empty if that part was left out.
        notes: Sentences on how it came about.

    Raises:
        WriteError: The file cannot be written.
    """
    sections = [*_next_word(runs), *_places(places)]
    found = found_in(runs, places)
    write_report(path, TITLE, said, sections, findings=found, notes=notes, unit=UNIT)


def found_in(runs: Sequence[NextWordRun], places: Sequence[PlaceRun]) -> list[Found]:
    """Return all findings with the model and the stage they are of, the gravest first.

    Args:
        runs: Next-word prediction, one a cell.
        places: Place and language, one a cell.

    Example:
        >>> found_in([], [])
        []
    """
    found = [
        Found(finding, f"next word, {run.name}, {when(stage.steps)}")
        for run in runs
        for stage in (run.start, run.trained)
        for finding in stage.findings
    ] + [
        Found(finding, f"{NEEDED} words apart, {run.name}, {when(stage.steps)}")
        for run in places
        for stage in run.stages
        for finding in stage.findings
    ]
    return sorted(found, key=lambda item: SEVERITIES.index(item.finding.severity))


def _next_word(runs: Sequence[NextWordRun]) -> Iterator[Section]:
    for run in runs:
        for stage in (run.start, run.trained):
            yield Section(
                title=f"Next word: {run.name}, {when(stage.steps)}",
                flow=stage.flow,
                last_step=stage.last_word,
                remarks=tuple(verdict(stage.flow, unit=UNIT)),
            )


def _places(places: Sequence[PlaceRun]) -> Iterator[Section]:
    for run in places:
        for stage in run.stages:
            yield Section(
                title=f"Place and language: {run.name}, {when(stage.steps)}",
                flow=stage.flow,
                remarks=(
                    f"Sentences with {NEEDED} words from one word to the other; the loss reads "
                    "the second of the two alone.",
                ),
            )
