"""`gradreach demo`: how far back the gradient reaches, from one neuron to real English."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from gradreach.cli.lazy_group import HELP, LazyGroup
from gradreach.errors import MissingExtraError

if TYPE_CHECKING:  # it imports torch, for which `--help` must not wait
    from gradreach.cli.place_language import PlaceRun

__all__ = ["demo"]

CELLS = ("rnn", "lstm")
STEPS, PLACE_STEPS, QUICK_STEPS = 200, 250, 10
# Long memory from the start (Tallec & Ollivier 2018): measured beside them, a cure for the finding.
UNTRAINED_CELL = "chrono"
REPORT = Path("gradreach-demo") / "report.html"

COMMANDS = {
    "smallest": (
        "gradreach.cli.smallest:smallest",
        "Train the one-neuron network and take its gradient apart step by step.",
    ),
}


@click.group(
    "demo", cls=LazyGroup, lazy=COMMANDS, invoke_without_command=True, context_settings=HELP
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=REPORT,
    show_default=True,
    help="Where to write the report.",
)
@click.option(
    "--steps",
    type=click.IntRange(min=0),
    help="Training steps of each network; without it, "
    f"{STEPS} for the next word and {PLACE_STEPS} for place and language.",
)
@click.option("--quick", is_flag=True, help=f"Train {QUICK_STEPS} steps only.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
@click.pass_context
def demo(ctx: click.Context, out: Path, steps: int | None, quick: bool, as_json: bool) -> None:
    """Show how far back the gradient reaches, on real networks.

    Without a command: the one-neuron network in short; next-word prediction on real English
    and a task that needs 50 words, with nn.RNN and nn.LSTM, measured and diagnosed before and
    after training; a report.
    """
    given = [name for name in ctx.params if _was_given(ctx, name)]
    if ctx.invoked_subcommand is not None:
        if given:
            raise click.UsageError(
                f"options of `demo` do not go with `{ctx.invoked_subcommand}`: put its own "
                "options after its name"
            )
        return
    if quick and "steps" in given:
        raise click.UsageError("--quick sets the number of steps itself: leave --steps out")
    if quick:
        steps = QUICK_STEPS
    _run(
        out, as_json,
        steps=STEPS if steps is None else steps,
        place_steps=PLACE_STEPS if steps is None else steps,
    )  # fmt: skip


def _was_given(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE


def _run(out: Path, as_json: bool, *, steps: int, place_steps: int) -> None:
    """Compute and print part by part; imports here, or `--help` would wait for torch."""
    from gradreach.cli.demo_text import (
        next_word_lines,
        smallest_lines,
        text_lines,
        verdict_sentences,
    )
    from gradreach.cli.example import load_example
    from gradreach.cli.smallest import run_demo
    from gradreach.report.terminal import wrapped
    from gradreach.runs.files import check_writable

    def say(lines: Iterable[str]) -> None:
        if not as_json:
            click.echo("\n".join(lines))

    started = time.perf_counter()
    check_writable(out)  # now, not after a minute of training
    one_neuron = run_demo(steps=(3, 10, 100), activations=("tanh", "relu"), seeds=(0, 1, 2))
    say([*smallest_lines(one_neuron), ""])

    import torch  # only now, after the first words

    from gradreach.cli.demo_json import demo_as_plain
    from gradreach.cli.demo_report import write_demo_report
    from gradreach.cli.next_word import load_text, measure_next_word
    from gradreach.cli.place_text import place_verdict

    # These networks are small: on two shared cores a second thread cost four times the time.
    torch.set_num_threads(1)
    text = load_text(load_example("next_word"))
    say([*text_lines(text), ""])
    runs = []
    for cell in CELLS:
        with _progress(f"training nn.{cell.upper()}", steps) as advance:
            runs.append(measure_next_word(text, cell, steps=steps, progress=advance))
        say([*next_word_lines(runs[-1]), ""])
    places, missing = _place_part(say, place_steps)

    said = [*verdict_sentences(runs), *place_verdict(places)]
    say(["Verdict", *(line for sentence in said for line in wrapped(sentence))])
    seconds = time.perf_counter() - started
    notes = [
        f"examples/next_word.py: {len(text.train):,} words of Python's language reference; its "
        "own model, loss and training step; dropout on, as in training.",
        missing or "examples/place_language.py: its own model, sentences and training step.",
        f"The whole demo took {seconds:.0f} s.",
    ]
    write_demo_report(out, said, runs, places, notes)
    if as_json:
        plain = demo_as_plain(one_neuron, text, runs, said, places=places, missing=missing)
        told = {**plain, "report": str(out), "seconds": round(seconds, 1)}
        click.echo(json.dumps(told, allow_nan=False))
    else:
        click.echo(f"\nReport: {out}")


def _place_part(
    say: Callable[[Iterable[str]], None], steps: int
) -> tuple[list[PlaceRun], str | None]:
    """Compute and print place and language; without its extra, return why it is left out."""
    from gradreach.cli.example import load_example
    from gradreach.cli.place_language import load_place, measure_place
    from gradreach.cli.place_text import (
        PLACE_TITLE,
        accuracy_lines,
        place_intro_lines,
        place_lines,
    )
    from gradreach.report.terminal import wrapped

    say([PLACE_TITLE])
    try:
        data = load_place(load_example("place_language"))
    except MissingExtraError as error:
        say([*wrapped(f"{error}."), ""])
        return [], f"{error}."
    say([*place_intro_lines(data), ""])
    runs = []
    for cell, length in [*((cell, steps) for cell in CELLS), (UNTRAINED_CELL, 0)]:
        with _progress(f"training {cell}, place and language", length) as advance:
            runs.append(measure_place(data, cell, steps=length, progress=advance))
        say([*place_lines(runs[-1]), ""])
    told = list(accuracy_lines(runs))
    say([*told, ""] if told else [])
    return runs, None


@contextlib.contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar on standard error while a person is watching; it leaves nothing behind."""
    if not sys.stderr.isatty() or not total:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    # Without redirection: rich would send to the terminal what goes to a file or a pipe.
    with Progress(
        console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False
    ) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)
