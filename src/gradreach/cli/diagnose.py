"""``gradreach diagnose``: run a training script as it is, watched."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn, TextIO

import click

from gradreach.cli.any_encoding import tolerate_any_encoding
from gradreach.cli.lazy_group import HELP
from gradreach.runs.files import WriteError
from gradreach.runs.folder import RunFolder, RunFolderError
from gradreach.script.ranks import end_stopped_rank, is_first_rank, is_one_of_many
from gradreach.script.runner import Outcome, ScriptError, check_script

__all__ = ["diagnose"]

COULD_NOT_MEASURE = 3
READER_GONE = 128 + 13  # as a shell reports a death by SIGPIPE


@click.command(
    context_settings={**HELP, "allow_interspersed_args": False},
    epilog="Options of gradreach stand before the script, the script's own after it.",
)
@click.option("--every", type=click.IntRange(1), metavar="N",
              help="Sample each N-th backward pass; without it, as often as 5 % of the time "
              "allows, at most each 50th.")  # fmt: skip
@click.option("--steps", type=click.IntRange(1), metavar="N",
              help="Stop the script after N optimizer steps.")  # fmt: skip
@click.option("--needs-lag", type=click.IntRange(1), metavar="N",
              help="How many steps back the task must look, if you know.")  # fmt: skip
@click.option("--inputs", is_flag=True,
              help="Where no recurrent layer is found, measure how far back the inputs of modules "
              "without a state matter (transformer, convolution, state space).")  # fmt: skip
@click.option(
    "--explain-cost", is_flag=True,
    help="Say what the Jacobians and Lyapunov exponents of each layer would cost.",
)  # fmt: skip
@click.option(
    # The second name is for torchrun, which takes the first for the beginning of one of its own.
    "--run", "--run-folder", "folder", type=click.Path(path_type=Path), metavar="FOLDER",
    help="Where to write records and report; default gradreach-runs/SCRIPT-TIME.",
)  # fmt: skip
@click.option(
    "--live", is_flag=True,
    help="Show the run as a page that grows while it trains; its address is printed first.",
)  # fmt: skip
@click.option(
    "--json", "as_json", is_flag=True,
    help="Print one JSON object; the script's output goes to standard error.",
)  # fmt: skip
@click.argument("script")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def diagnose(
    every: int | None,
    steps: int | None,
    needs_lag: int | None,
    inputs: bool,
    explain_cost: bool,
    folder: Path | None,
    live: bool,
    as_json: bool,
    script: str,
    arguments: tuple[str, ...],
) -> None:
    """Run an unmodified training script and say what is wrong with its gradient.

    The script runs exactly as `python SCRIPT ARGS…` would; its weights, files and output are
    bit for bit the same. Findings are printed to standard error when it ends.
    """
    from gradreach.script.watched import run_counted, run_watched

    try:
        check_script(script)
    except ScriptError as error:
        raise click.UsageError(str(error)) from error
    if not is_first_rank():
        with _own_streams(as_json):
            outcome = run_counted(script, list(arguments), steps)
        _end(outcome, outcome.exit_code)
    run = _run_folder(folder, [script, *arguments])
    with _own_streams(as_json) as (output, errors):
        if live:
            from gradreach.cli.live_page import open_live_page

            _write(errors, open_live_page(run.path))
        watched = run_watched(
            script, list(arguments), run, every=every, needs_lag=needs_lag, steps=steps,
            inputs=inputs,
        )  # fmt: skip
        if watched.forked:
            sys.exit(watched.outcome.exit_code)
        from gradreach.script.conclusion import conclude

        story = conclude(watched, run, explain_cost=explain_cost)
        if as_json:
            _flush_failure()  # the script's last words belong before ours, on one stream now
        _write(errors, story.text)
        if as_json:
            _write(output, story.json + "\n")
    code = story.exit_code
    if is_one_of_many():
        # The launcher would take any other code for a crash and end the other ranks for it.
        code = watched.outcome.exit_code
    _end(watched.outcome, watched.outcome.exit_code or _flush_failure() or code)


def _end(outcome: Outcome, code: int) -> NoReturn:
    if outcome.stopped and is_one_of_many():
        end_stopped_rank(code)
    # Python itself does what is left to do, to the streams as the script has made them.
    sys.exit(code)


def _run_folder(folder: Path | None, command: list[str]) -> RunFolder:
    """Make the run folder, before anything of the script runs."""
    try:
        run = RunFolder.fresh(Path(command[0]).stem) if folder is None else RunFolder(folder)
        # A relative folder must not follow the script when it changes the working directory.
        run.path = run.path.absolute()
        run.write_meta({"command": command, "state": "running"})
    except (RunFolderError, WriteError) as error:
        raise click.UsageError(str(error)) from error
    return run


@contextlib.contextmanager
def _own_streams(as_json: bool) -> Iterator[tuple[TextIO | None, TextIO | None]]:
    """Yield standard output and error as they are now, whatever the script makes of them.

    With ``--json``, standard output is kept for ourselves and the script's goes to standard
    error, also what it writes from C and from its own children.
    """
    errors = sys.stderr
    if not as_json:
        yield sys.stdout, errors
        return
    if sys.stdout is None or sys.stderr is None:
        raise click.UsageError("--json needs both standard output and standard error open")
    sys.stdout.flush()
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        yield own, errors
    finally:
        with contextlib.suppress(OSError):
            own.close()


def _write(stream: TextIO | None, text: str) -> None:
    """Write where we can: the script may have closed it, its reader may have gone."""
    restore = tolerate_any_encoding()
    if stream is not None:
        try:
            stream.write(text)
            stream.flush()
        except ValueError:  # the script has closed it: there is nobody to tell
            pass
        except OSError:
            _forget(stream)
    with contextlib.suppress(OSError, ValueError):
        restore()


def _flush_failure() -> int:
    """Write what the script left in standard output; return an exit code where that fails."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except ValueError:  # the script has closed it
        return 0
    except OSError as error:
        _forget(sys.stdout)
        return READER_GONE if error.errno == errno.EPIPE else COULD_NOT_MEASURE
    return 0


def _forget(stream: TextIO) -> None:
    """Send what is still buffered nowhere, or Python complains about it when it ends."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
