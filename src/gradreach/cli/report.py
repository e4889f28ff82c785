"""``gradreach report``: what a run folder tells, also of a run that was killed."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradreach.cli.coloured import coloured
from gradreach.cli.lazy_group import HELP
from gradreach.runs.files import WriteError
from gradreach.runs.folder import RunFolderError

if TYPE_CHECKING:
    from gradreach.records.sighting import Sighting
    from gradreach.runs.run_record import RunRecord

__all__ = ["report"]

SCHEMA_VERSION = 1
HEALTHY, PROBLEM, COULD_NOT_MEASURE = 0, 1, 3
# What a terminal would obey: names in a record are whatever somebody once called a layer.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@click.command(context_settings=HELP)
@click.option("--needs-lag", type=click.IntRange(1), metavar="N",
              help="How many steps back the task must look, if you know.")  # fmt: skip
@click.option(
    "--output", "output", type=click.Path(path_type=Path), metavar="FILE",
    help="Where to write the page; default RUN/report.html.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.argument("run", type=click.Path(path_type=Path))
@click.pass_context
def report(
    context: click.Context, needs_lag: int | None, output: Path | None, as_json: bool, run: Path
) -> int:
    """Print what a watched run came to, and write its report.

    RUN is the folder of `gradreach diagnose` or `gradreach.watch(run=…)`. The run may have been
    killed, and it may still be going on.
    """
    from gradreach.runs.run_record import read_run

    try:
        record = read_run(run)
    except RunFolderError as error:
        raise click.UsageError(str(error), context) from error
    sightings = _sightings(record, needs_lag)
    page = record.folder.report if output is None else output
    complaint = _write_page(page, record, sightings)
    code = COULD_NOT_MEASURE if complaint else _exit_code(record, sightings)
    if as_json:
        click.echo(_json(record, sightings, None if complaint else page, code))
    else:
        story = (CONTROL.sub("?", line) for line in _story(record, sightings))
        for line in coloured(story, terminal=sys.stdout.isatty()):
            click.echo(line, color=True)
        if not complaint:
            click.echo(f"Report: {page}")
    if complaint:
        click.echo(f"Error: {complaint}", err=True)
    return code


def _sightings(record: RunRecord, needs_lag: int | None) -> list[Sighting]:
    """Return what was found when the run ended; else ask the rules now, of what was recorded."""
    from gradreach.diagnosis.sightings import sightings_of

    told = record.findings and record.state in ("ended", "stopped") and needs_lag is None
    if told or record.history is None:
        return list(record.findings)
    return sightings_of(record.history, needs_lag, record.findings, record.flows)


def _exit_code(record: RunRecord, sightings: list[Sighting]) -> int:
    if any(sighting.finding.severity != "note" for sighting in sightings):
        return PROBLEM
    history = record.history
    seen = record.flows or (history is not None and (len(history) or history.samples))
    return HEALTHY if seen else COULD_NOT_MEASURE


def _write_page(page: Path, record: RunRecord, sightings: list[Sighting]) -> str | None:
    """Write the page; return why it could not be written."""
    from gradreach.report.run_notes import run_notes
    from gradreach.report.run_report import write_run_report

    name = record.name.encode("utf-8", "replace").decode()
    notes = [note.encode("utf-8", "replace").decode() for note in run_notes(record)]
    try:
        write_run_report(page, name, sightings, record.flows, notes, record.history)
    except WriteError as error:
        return str(error)
    return None


def _story(record: RunRecord, sightings: list[Sighting]) -> list[str]:
    from gradreach.report.findings import Found, finding_lines, found_sentence
    from gradreach.report.run_notes import run_notes
    from gradreach.report.terminal import WIDTH, flow_lines, profile_lines, wrapped

    found = [Found(sighting.finding, sighting.when) for sighting in sightings]
    lines = [f"{record.name}: {found_sentence(found)}"]
    if found:
        lines += ["", *finding_lines(found)]
    if record.history is not None:
        lines += ["", *str(record.history).splitlines()]
    for step, flow in record.flows[-1:]:
        lines += ["", f"Gradient flow at step {step}:", *flow_lines(flow)]
        accused = next((item.finding.layer for item in found if item.finding.layer), None)
        lines += profile_lines(flow.layers.get(accused or "") or next(iter(flow.layers.values())))
    notes = list(run_notes(record))
    if notes:
        lines += ["", *(part for note in notes for part in wrapped(note, WIDTH))]
    return [*lines, ""]


def _json(record: RunRecord, sightings: list[Sighting], page: Path | None, code: int) -> str:
    from gradreach.runs.plain_json import dumps

    history = record.history
    plain: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "run": str(record.folder.path),
        "name": record.name,
        "state": record.state,
        "exit_code": code,
        "findings": [sighting.to_dict() for sighting in sightings],
        "recorded_steps": 0 if history is None else len(history),
        "samples": 0 if history is None else len(history.samples),
        "events": [] if history is None else [event.to_dict() for event in history.events],
        "meta": dict(record.meta if history is None else history.meta),
        "complaints": list(record.complaints),
        "report": None if page is None else str(page),
    }
    return dumps(plain)
