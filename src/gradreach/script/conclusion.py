"""What a watched run comes to: a text, one JSON object, a report and an exit code."""

from __future__ import annotations

import platform
import textwrap
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gradreach import __version__
from gradreach.records.jacobian_cost import JacobianCost
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


def conclude(run: WatchedRun, folder: RunFolder, *, explain_cost: bool = False) -> Conclusion:
    """Write the last files of a run's folder and say what was found.

    The exit code is the script's own where that is not 0; else 1 where a finding of severity
    warning or error was seen, 3 where nothing could be measured, 0 otherwise.
    """
    begun = time.perf_counter()
    sightings = run.session.ordered() if run.session is not None else []
    why = _why_nothing(run)
    code = _exit_code(run, sightings, why)
    findings = [sighting.to_dict() for sighting in sightings]
    complaint, reported = None, False
    try:
        folder.write_findings(findings)
        if run.session is not None and run.session.flows:
            _write_report(run, folder, sightings)
            reported = True
    except WriteError as error:
        complaint = str(error)
    except Exception:  # noqa: BLE001  the script has ended well, and its exit code stands
        run.trouble = run.trouble or traceback.format_exc()
    if run.session is not None:
        run.session.watch.guard.aside += time.perf_counter() - begun
    meta = _meta(run, why, code)
    try:
        folder.write_meta(meta)
    except WriteError as error:
        complaint = complaint or str(error)
    lines = [_rule("gradreach"), *_story(run, sightings, why)]
    if explain_cost and run.session is not None:
        lines += _costs(run.session.costs)
    complaint = complaint or (run.session.unwritten if run.session is not None else None)
    if complaint is not None:
        lines += _wrapped(f"Records are missing: {complaint}.")
    if reported:
        lines.append(f"Report: {folder.report}")
    return Conclusion("\n".join(lines) + "\n", dumps({**meta, "findings": findings}), code)


def _exit_code(run: WatchedRun, sightings: list[Sighting], why: str | None) -> int:
    if run.outcome.exit_code:
        return run.outcome.exit_code
    if any(sighting.finding.severity != "note" for sighting in sightings):
        return PROBLEM
    return NOT_MEASURED if why else HEALTHY


def _why_nothing(run: WatchedRun) -> str | None:
    """Say why no pass was measured, or return ``None`` where one was."""
    session = run.session
    if session is not None and session.measured:
        return None
    if run.trouble:
        return "gradreach itself failed"
    if session is None:
        return "the script never imported torch"
    if session.blind:
        return "; ".join(str(spot) for spot in session.blind.values())
    if not session.watch.names:
        return (
            "no recurrent layer (nn.RNN, nn.GRU, nn.LSTM or their cells) was called: gradreach "
            "measures recurrent networks; --inputs looks at modules without a state"
        )
    return (
        "no backward pass went through a recurrent layer, or torch.compile took them all in "
        "(TORCHDYNAMO_DISABLE=1 keeps them out)"
    )


def _meta(run: WatchedRun, why: str | None, code: int) -> dict[str, Any]:
    session = run.session
    outcome = run.outcome
    meta: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "state": "stopped" if outcome.stopped else "ended",
        "command": run.command,
        "script": {
            "exit_code": outcome.exit_code,
            "signal": "SIGINT" if outcome.interrupted else None,
        },
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
            "watching_share": _share(run),
            "blind": [spot.to_dict() for spot in session.blind.values()],
            "jacobian_cost": {name: cost.to_dict() for name, cost in session.costs.items()},
        }
    return meta


def _costs(costs: dict[str, JacobianCost]) -> Iterator[str]:
    """Yield what looking further into each layer would cost, from `gradreach.measure`."""
    yield ""
    if not costs:
        yield "No layer here has Jacobians that could be computed."
        return
    yield "What layer.jacobian, .lyapunov, .sensitivity and .conditions would cost:"
    for name, cost in costs.items():
        yield from textwrap.wrap(f"{name}: {cost}", WIDTH, subsequent_indent="  ")


def _story(run: WatchedRun, sightings: list[Sighting], why: str | None) -> Iterator[str]:
    """Yield the lines for the terminal."""
    outcome, session = run.outcome, run.session
    if outcome.interrupted:
        yield f"The script was interrupted{outcome.place and f' at {outcome.place}'}."
    elif outcome.exit_code:
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
    if session is not None and session.measured:
        yield from _wrapped(_effort(run))
    if run.trouble:
        off = session is None or session.trouble is not None
        yield from _wrapped(
            f"gradreach itself failed{' and switched its watch off' if off else ''} "
            f"({_last_line(run.trouble)}); the script was not disturbed. The traceback is in "
            "meta.json; please report it."
        )


def _last_line(trouble: str) -> str:
    return trouble.strip().splitlines()[-1]


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
    return (
        f"Watched {watch.passes} backward passes in {run.seconds:.1f} s, measured {watch.samples} "
        f"({watch.cadence}); watching took {watch.seconds:.2f} s, {100 * _share(run):.1f} % on "
        "top of the script's own time."
    )


def _share(run: WatchedRun) -> float:
    """Return the time that watching took, by the time that the script would have taken alone."""
    assert run.session is not None
    return run.session.watch.seconds / max(run.own_seconds, 1e-3)


def _write_report(run: WatchedRun, folder: RunFolder, sightings: list[Sighting]) -> None:
    """Write the report; it needs jinja2, which is imported only now."""
    from gradreach.report.run_report import write_run_report

    session = run.session
    assert session is not None
    notes = [f"Command: {' '.join(map(_readable, run.command))}.", _effort(run)]
    notes += [f"Not measured: {spot}." for spot in session.blind.values()]
    name = _readable(run.command[0])
    write_run_report(folder.report, name, sightings, session.flows, notes, session.history())


def _readable(name: str) -> str:
    """Return a file name as text; one that is no UTF-8 cannot be written as it is."""
    return name.encode("utf-8", "replace").decode()


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False,
        break_long_words=False,
    )  # fmt: skip


def _rule(title: str) -> str:
    return f"── {title} " + "─" * (WIDTH - len(title) - 4)
