"""``gradreach diagnose``: run a training script as it is, watched."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import click

from gradreach.runs.folder import RunFolder, RunFolderError
from gradreach.script.runner import ScriptError

__all__ = ["diagnose"]


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="Options of gradreach stand before the script, the script's own after it.",
)
@click.option("--every", type=click.IntRange(1), metavar="N",
              help="Sample each N-th backward pass; without it, as often as 5 % of the time "
              "allows, at most each 50th.")  # fmt: skip
@click.option("--steps", type=click.IntRange(1), metavar="N",
              help="Stop the script after N optimizer steps.")  # fmt: skip
@click.option("--needs-lag", type=click.IntRange(1), metavar="N",
              help="How many steps back the task must look, if you know.")  # fmt: skip
@click.option("--run", "folder", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Where to write records and report; default gradreach-runs/SCRIPT-TIME.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True,
              help="Print one JSON object; the script's output goes to standard error.")  # fmt: skip
@click.argument("script")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def diagnose(
    every: int | None,
    steps: int | None,
    needs_lag: int | None,
    folder: Path | None,
    as_json: bool,
    script: str,
    arguments: tuple[str, ...],
) -> int:
    """Run an unmodified training script and say what is wrong with its gradient.

    The script runs exactly as `python SCRIPT ARGS…` would; its weights, files and output are
    bit for bit the same. Findings are printed to standard error when it ends.
    """
    from gradreach.script.watched import run_watched

    if not Path(script).is_file():
        what = "is a folder" if Path(script).is_dir() else "does not exist"
        raise click.UsageError(f"the script '{script}' {what}: name a Python file")
    # A relative folder must not follow the script when it changes the working directory.
    place = None if folder is None else folder.absolute()
    try:
        run = RunFolder.fresh(Path(script).stem) if place is None else RunFolder(place)
    except RunFolderError as error:
        raise click.UsageError(str(error)) from error
    run.path = run.path.absolute()
    run.write_meta({"command": [script, *arguments], "state": "running"})
    with _own_output(as_json) as output:
        try:
            watched = run_watched(
                script, list(arguments), run, every=every, needs_lag=needs_lag, steps=steps
            )
        except ScriptError as error:
            raise click.UsageError(str(error)) from error
        from gradreach.script.conclusion import conclude

        story = conclude(watched, run)
        with contextlib.suppress(BrokenPipeError):
            sys.stderr.write(story.text)
            if as_json:
                output.write(story.json + "\n")
                output.flush()
    return story.exit_code


@contextlib.contextmanager
def _own_output(as_json: bool) -> Iterator[TextIO]:
    """With ``--json``, keep standard output for ourselves and send the script's to stderr."""
    if not as_json:
        yield sys.stdout
        return
    sys.stdout.flush()
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        yield own
    finally:
        sys.stdout.flush()
        own.close()
