"""What a watched run comes to: a text, one JSON object, a report and an exit code."""

from __future__ import annotations

import platform
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gradreach import __version__
from gradreach.records import BlindSpot
from gradreach.records.sighting import Sighting
from gradreach.runs.files import WriteError
from gradreach.runs.folder import RunFolder
from gradreach.runs.plain_json import dumps
from gradreach.script.watched import WatchedRun

__all__ = ["Conclusion", "conclude"]

SCHEMA_VERSION = 1
HEALTHY, PROBLEM, NOT_MEASURED = 0, 1, 3
WIDTH = 80


@dataclass(frozen=True)
class Conclusion:
    """The end of a run, ready to be shown."""

    text: str
    json: str
    exit_code: int


def conclude(run: WatchedRun, folder: RunFolder) -> Conclusion:
    """Write the last files of a run's folder and say what was found.

    The exit code is the script's own where that is not 0; else 1 where a finding of severity
    warning or error was seen, 3 where nothing could be measured, 0 otherwise.
    """
    why = _why_nothing(run)
    sightings = run.session.ordered() if run.session is not None else []
    code = _exit_code(run, sightings, why)
    meta = _meta(run, why, code)
    lines = [_rule("gradreach")]
    try:
        folder.write_meta(meta)
        folder.write_findings([sighting.to_dict() for sighting in sightings])
        if run.session is not None and run.session.flows:
            _write_report(run, folder, sightings, meta)
            lines += list(_story(run, sightings, why))
            lines.append(f"Report: {_shown(folder)}")
        else:
            lines += list(_story(run, sightings, why))
    except WriteError as error:
        lines += [*_story(run, sightings, why), str(error)]
    whole = {**meta, "findings": [sighting.to_dict() for sighting in sightings]}
    return Conclusion("\n".join(lines) + "\n", dumps(whole), code)


def _exit_code(run: WatchedRun, sightings: list[Sighting], why: str | None) -> int:
    if run.outcome.exit_code:
        return run.outcome.exit_code
    if any(sighting.finding.severity != "note" for sighting in sightings):
        return PROBLEM
    return NOT_MEASURED if why else HEALTHY


def _why_nothing(run: WatchedRun) -> str | None:
    """Say why no pass was measured, or return ``None`` where one was."""
    session = run.session
    if session is None:
        if run.trouble:
            return "gradreach could not start its watch; please report this"
        return "the script never imported torch (or this process is not rank 0)"
    if session.measured:
        return None
    if session.blind:
        return "; ".join(str(spot) for spot in session.blind.values())
    if not session.watch.names:
        return (
            "no recurrent layer (nn.RNN, nn.GRU, nn.LSTM or their cells) was called: gradreach "
            "measures recurrent networks"
        )
    return "recurrent layers were called, but no backward pass went through them"


def _meta(run: WatchedRun, why: str | None, code: int) -> dict[str, Any]:
    session = run.session
    outcome = run.outcome
    meta: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "state": "stopped" if outcome.stopped else "ended",
        "command": run.command,
        "script": {"exit_code": outcome.exit_code, "signal": None},
        "exit_code": code,
        "not_measured": why,
        "seconds": run.seconds,
        "versions": {"gradreach": __version__, "python": platform.python_version()},
        "trouble": run.trouble,
    }
    if session is not None:
        import torch

        meta["versions"]["torch"] = torch.__version__
        meta |= {
            "passes": session.watch.passes,
            "optimizer_steps": session.watch.steps,
            "samples": session.watch.samples,
            "sampled_every": session.watch.cadence.every,
            "watching_seconds": session.watch.seconds,
            "watching_share": session.share,
            "blind": [spot.to_dict() for spot in session.blind.values()],
        }
    return meta


def _story(run: WatchedRun, sightings: list[Sighting], why: str | None) -> Iterator[str]:
    """Yield the lines for the terminal."""
    outcome, session = run.outcome, run.session
    if outcome.exit_code:
        yield f"The script ended with exit code {outcome.exit_code}."
    if outcome.stopped:
        yield "The script was stopped after the steps asked for."
    if why is not None:
        yield from _wrapped(f"Not measured: {why}.")
    elif not any(sighting.finding.severity != "note" for sighting in sightings):
        yield "No problem found in the gradient flow through time."
    for sighting in sightings:
        yield from _sighting_lines(sighting)
    if session is not None and session.flows:
        yield ""
        step, flow = session.flows[-1]
        yield f"Gradient flow at step {step}:"
        yield flow.table(WIDTH)
    if session is not None and session.watch.samples:
        yield from _wrapped(_effort(run))
    if run.trouble:
        last = run.trouble.strip().splitlines()[-1]
        yield from _wrapped(
            f"gradreach itself failed and switched its watch off ({last}); the script was not "
            "disturbed. The traceback is in meta.json."
        )


def _sighting_lines(sighting: Sighting) -> Iterator[str]:
    finding = sighting.finding
    where = f" in {finding.layer}" if finding.layer else ""
    yield ""
    yield f"{finding.severity}: {finding.code}{where} ({sighting.when})"
    yield from _wrapped(finding.cause, "  ")
    if finding.remedies:
        yield from _wrapped(f"worth trying: {', '.join(finding.remedies)}", "  ")
    yield from _wrapped(f"to refute it: {finding.counter_check}", "  ")
    yield f"  more: gradreach explain {finding.code}"


def _effort(run: WatchedRun) -> str:
    session = run.session
    assert session is not None
    watch = session.watch
    every = watch.cadence.every
    return (
        f"Watched {watch.passes} backward passes in {run.seconds:.1f} s, measured {watch.samples} "
        f"(the first {watch.cadence.first}, then one of {every}); watching took "
        f"{watch.seconds:.2f} s, {100 * session.share:.1f} % of the time."
    )


def _write_report(
    run: WatchedRun, folder: RunFolder, sightings: list[Sighting], meta: dict[str, Any]
) -> None:
    """Write the report; it needs jinja2, which is imported only now."""
    from gradreach.report.run_report import write_run_report

    session = run.session
    assert session is not None
    notes = [f"Command: {' '.join(run.command)}.", _effort(run)]
    spots = [BlindSpot(**spot) for spot in meta["blind"]]
    notes += [f"Not measured: {spot}." for spot in spots]
    write_run_report(folder.report, run.command[0], sightings, session.flows, notes)


def _shown(folder: RunFolder) -> str:
    return str(folder.report)


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False,
        break_long_words=False,
    )  # fmt: skip


def _rule(title: str) -> str:
    return f"── {title} " + "─" * (WIDTH - len(title) - 4)
