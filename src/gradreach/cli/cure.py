"""``gradreach cure``: what helps a training script, tried on it against the untreated control."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradreach.cli.lazy_group import HELP

if TYPE_CHECKING:
    from gradreach.trials.conduct import Plan
    from gradreach.trials.cure import Cure
    from gradreach.trials.metric import Metric
    from gradreach.trials.spec import TrialSpec

__all__ = ["cure"]

HEALTHY, PROBLEM, NOT_MEASURED = 0, 1, 3
INTERRUPTED = 128 + 2
PATCH, PAGE, RESULT = "cure.patch", "report.html", "cure.json"


@click.command(
    context_settings={**HELP, "allow_interspersed_args": False},
    epilog="Options of gradreach stand before the script, the script's own after it.",
)
@click.option("--seeds", type=click.IntRange(2), default=3, show_default=True, metavar="K",
              help="Seeds of the script as it is and of each finalist.")  # fmt: skip
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, metavar="N",
              help="Runs at a time on this machine.")  # fmt: skip
@click.option("--ray", metavar="ADDRESS", help="Run on a Ray cluster: an address, or auto.")
@click.option("--metric", "pattern", metavar="REGEX",
              help="The number to go by: the first group of this pattern in the script's output, "
              "the last time it is printed; log:NAME for what it gives to "
              "gradreach.log.")  # fmt: skip
@click.option("--minimize/--maximize", default=True, help="Whether less of it is better (default).")
@click.option("--target", type=float, metavar="VALUE",
              help="The metric at which the task counts as learned.")  # fmt: skip
@click.option("--budget", type=click.IntRange(2), metavar="STEPS",
              help="Optimizer steps of a full run; without it, as many as the script "
              "makes.")  # fmt: skip
@click.option("--needs-lag", type=click.IntRange(1), metavar="N",
              help="How many steps back the task must look, if you know: a gradient that reaches "
              "that far needs no treatment, and windows and initialisations are chosen "
              "by it.")  # fmt: skip
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, metavar="N",
              help="Threads of each run: results depend on them.")  # fmt: skip
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
              help="End a run that takes longer.")  # fmt: skip
@click.option("--treatments", metavar="A,B",
              help="Try only these: families (gating) or labels (clipping(norm=1.0)).")  # fmt: skip
@click.option("--most", type=click.IntRange(1), metavar="N", help="Treatments to try at most.")
@click.option("--finalists", type=click.IntRange(1), default=3, show_default=True, metavar="N",
              help="Treatments that are given full runs.")  # fmt: skip
@click.option("--study", "folder", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Where every run is kept; default gradreach-runs/cure-SCRIPT-HASH. The same "
              "command goes on where it was broken off.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.argument("script")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def cure(
    seeds: int,
    jobs: int,
    ray: str | None,
    pattern: str | None,
    minimize: bool,
    target: float | None,
    budget: int | None,
    needs_lag: int | None,
    threads: int,
    timeout: float | None,
    treatments: str | None,
    most: int | None,
    finalists: int,
    folder: Path | None,
    as_json: bool,
    script: str,
    arguments: tuple[str, ...],
) -> int:
    """Try remedies on a training script, unedited, against the script as it is.

    The script is diagnosed; remedies for what is found are tried over several seeds beside the
    untreated script; what is printed is what cures it, by how much, how sure and at what cost,
    and the lines to change. A healthy script is run once and left alone.
    """
    place = folder
    try:  # from the first import on: a second or two in which Ctrl-C is as likely as later
        from gradreach.trials.choose import MOST, ChoiceError
        from gradreach.trials.conduct import Plan
        from gradreach.trials.study import StudyError

        base = _base(
            script, arguments, budget=budget, threads=threads, timeout=timeout,
            metric=(pattern, minimize), needs_lag=needs_lag,
        )  # fmt: skip
        plan = Plan(seeds=tuple(range(seeds)), finalists=finalists, criterion=target)
        place = folder or _folder(script, base)
        try:
            found = _cured(base, plan, place, jobs, ray, _listed(treatments), most or MOST)
        except (ChoiceError, StudyError) as error:
            raise click.UsageError(str(error)) from error
        return _told(found, place, script, arguments, as_json)
    except KeyboardInterrupt:
        named = [] if place is None else ["--study", str(place)]
        command = shlex.join(["gradreach", "cure", *named, *_again(sys.argv)])
        click.echo(f"Interrupted; what has finished is kept. To go on:\n  {command}", err=True)
        return INTERRUPTED


def _base(
    script: str,
    arguments: tuple[str, ...],
    *,
    metric: tuple[str | None, bool],
    **options: Any,
) -> TrialSpec:
    """Return the untreated trial."""
    from gradreach.script.runner import ScriptError, check_script
    from gradreach.trials.metric import MetricError
    from gradreach.trials.spec import TrialSpec
    from gradreach.trials.target import ScriptTarget

    try:
        check_script(script)
        target = ScriptTarget(path=script, args=arguments, cwd=str(Path.cwd()))
        return TrialSpec(target=target, metric=_metric(*metric), **options)
    except (ScriptError, MetricError) as error:
        raise click.UsageError(str(error)) from error


def _metric(pattern: str | None, minimize: bool) -> Metric:
    from gradreach.trials.metric import Metric

    direction: Any = "minimize" if minimize else "maximize"
    if pattern is None:
        if not minimize:
            raise click.UsageError("--maximize needs --metric: a loss is to be small")
        return Metric(kind="loss")
    if pattern.startswith("log:"):
        return Metric(kind="log", pattern=pattern.removeprefix("log:"), direction=direction)
    return Metric(kind="regex", pattern=pattern, direction=direction)


def _folder(script: str, base: TrialSpec) -> Path:
    """Return the folder of this very study: the same command finds it again."""
    from gradreach.trials.key import key_of

    safe = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(script).stem).strip("-")[:40] or "script"
    return Path("gradreach-runs") / f"cure-{safe}-{key_of(base)[:8]}"


def _listed(text: str | None) -> list[str]:
    """Split at the commas that stand outside of brackets."""
    return [] if text is None else [
        part.strip() for part in re.split(r",(?![^(]*\))", text) if part.strip()
    ]  # fmt: skip


def _again(argv: Sequence[str]) -> list[str]:
    """Return what stood after `gradreach cure`, without --study."""
    rest = list(argv[argv.index("cure") + 1 :]) if "cure" in argv else list(argv[1:])
    for place, each in enumerate(rest):
        if each == "--study":
            return rest[:place] + rest[place + 2 :]
        if each.startswith("--study="):
            return rest[:place] + rest[place + 1 :]
    return rest


def _cured(
    base: TrialSpec,
    plan: Plan,
    place: Path,
    jobs: int,
    ray: str | None,
    wanted: list[str],
    most: int,
) -> Cure:
    from gradreach.trials.cure import cure as run_cure
    from gradreach.trials.pools import pool_for
    from gradreach.trials.progress import progress_for
    from gradreach.trials.study import opened_study

    with (  # absolute: a script may change its working directory
        opened_study(place.absolute(), base) as study,
        pool_for(jobs, base.threads, ray) as pool,
        progress_for(True) as progress,
    ):
        return run_cure(base, plan, pool, study, progress, wanted=wanted, most=most)


def _told(found: Cure, place: Path, script: str, arguments: tuple[str, ...], as_json: bool) -> int:
    """Write the files, print the story, and return the exit code."""
    from gradreach.report.cure_page import write_cure
    from gradreach.report.cure_text import cure_lines
    from gradreach.runs.files import WriteError, write_whole
    from gradreach.runs.plain_json import dumps

    command = shlex.join([script, *arguments]).encode("utf-8", "replace").decode()
    shared: dict[str, Any] = {
        "patch": "" if found.patch is None else str(found.patch),
        "notes": found.notes,
        "refused": found.chosen.refused,
        "left": found.chosen.left,
    }
    code = {"healthy": HEALTHY, "unmeasured": NOT_MEASURED}.get(found.verdict, PROBLEM)
    plain = {**found.to_dict(), "exit_code": code, "study": str(place)}
    complaint = None
    try:
        if found.patch is not None:
            found.patch.write(place / PATCH)
        write_whole(place / RESULT, dumps(plain, indent=1) + "\n")
        write_cure(
            place / PAGE, f"A cure for {command}", found.sentence, found.findings,
            found.comparison, **shared,
        )  # fmt: skip
    except WriteError as error:
        complaint = str(error)
    if as_json:
        click.echo(dumps(plain))
    else:
        written = "" if found.patch is None or complaint else os.fspath(place / PATCH)
        lines = cure_lines(
            found.sentence, found.findings, found.comparison, patch_file=written, **shared
        )
        click.echo("\n".join(lines))
        if complaint is None:
            click.echo(f"Report: {place / PAGE}")
    if complaint is not None:
        click.echo(f"Error: {complaint}", err=True)
    return code
