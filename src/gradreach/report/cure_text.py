"""A cure in the terminal: verdict, findings, table, lines to change, how it was measured."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from gradreach.records.comparison import Comparison
from gradreach.records.comparison_text import table_lines
from gradreach.records.finding import Finding
from gradreach.report.findings import Found, found_sentence
from gradreach.report.terminal import WIDTH

__all__ = ["cure_lines"]


def cure_lines(
    sentence: str,
    findings: Sequence[Finding],
    comparison: Comparison | None,
    *,
    patch: str = "",
    patch_file: str = "",
    notes: Sequence[str] = (),
    refused: Sequence[tuple[str, str]] = (),
    left: Sequence[str] = (),
) -> Iterator[str]:
    r"""Yield the lines.

    Args:
        sentence: The verdict. findings: Of the untreated run. comparison: The study, if any.
        patch: The lines to change. patch_file: Where they were written.
        notes: Sentences on how it was measured. refused: Treatments with the reason against them.
        left: Labels of those there was no room for.

    Example:
        >>> print("\n".join(cure_lines("No treatment is needed.", [], None)))
        No treatment is needed.
        <BLANKLINE>
        Untreated: No problem found.
    """
    yield from _filled(sentence)
    yield ""
    yield from _filled(f"Untreated: {found_sentence([Found(each) for each in findings])}")
    if comparison is not None:
        yield ""
        yield from table_lines(comparison)
        yield from _measured_again(comparison)
    if patch:
        yield ""
        where = f" (written to {patch_file}: patch -p0 < {patch_file})" if patch_file else ""
        yield f"The lines to change{where}:"
        yield ""
        yield from patch.splitlines()
    if refused or left or notes:
        yield ""
    for name, why in refused:
        yield from _filled(f"Not tried: {name}: {why}.")
    if left:
        yield from _filled(f"Not tried for want of room: {', '.join(left)}.")
    for note in notes:
        yield from _filled(note)


def _measured_again(comparison: Comparison) -> Iterator[str]:
    """Yield how far the gradient reached with each treatment, and what was found with it."""
    for standing in comparison.standings:
        if not standing.seeds:
            continue
        reach = ", ".join(f"{name} {far:g}" for name, far in standing.reach.items())
        parts = [f"reach {reach}"] if reach else []
        parts += [f"no more {', '.join(standing.gone)}"] if standing.gone else []
        parts += [f"still {', '.join(standing.remaining)}"] if standing.remaining else []
        parts += [f"new {', '.join(standing.new)}"] if standing.new else []
        if parts:
            yield from _filled(f"{standing.treatment}: {'; '.join(parts)}.")


def _filled(text: str) -> list[str]:
    """Break a sentence into lines; names and paths stay whole."""
    return textwrap.wrap(
        text, WIDTH, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False
    )
