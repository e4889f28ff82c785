"""The report of a watched run."""

from __future__ import annotations

import os
from collections.abc import Sequence

from gradreach.records import GradientFlow
from gradreach.records.sighting import Sighting
from gradreach.report.html import Section, write_report
from gradreach.report.sentences import verdict

__all__ = ["write_run_report"]


def write_run_report(
    path: str | os.PathLike[str],
    name: str,
    sightings: Sequence[Sighting],
    flows: Sequence[tuple[int, GradientFlow]],
    notes: Sequence[str],
) -> None:
    """Write one page: the findings first, then the first and the latest measured pass.

    Args:
        path: The file to write.
        name: Name of the script, for the heading.
        sightings: The findings, the gravest first.
        flows: Measured passes with the optimizer step of each.
        notes: Sentences on how it was measured.
    """
    grave = [sighting for sighting in sightings if sighting.finding.severity != "note"]
    sentences = [f"{_where(sighting)}: {sighting.finding.cause}." for sighting in grave]
    if not sentences and flows:
        sentences = ["No problem found.", *verdict(flows[-1][1])]
    remarks = tuple(_details(sightings))
    sections = [
        Section(title=f"Step {step}", flow=flow, remarks=() if place else remarks)
        for place, (step, flow) in enumerate(flows)
    ]
    write_report(path, f"Gradient flow of {name}", sentences, sections, notes=notes)


def _where(sighting: Sighting) -> str:
    finding = sighting.finding
    layer = f" in {finding.layer}" if finding.layer else ""
    return f"{finding.severity}: {finding.code}{layer} ({sighting.when})"


def _details(sightings: Sequence[Sighting]) -> list[str]:
    told = []
    for sighting in sightings:
        finding = sighting.finding
        remedies = f" Worth trying: {', '.join(finding.remedies)}." if finding.remedies else ""
        told.append(f"{_where(sighting)}.{remedies} To refute it: {finding.counter_check}.")
    return told
