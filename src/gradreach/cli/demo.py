"""`gradreach demo`: how far back the gradient reaches, from one neuron to real English."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import click
from click.core import ParameterSource

from gradreach.cli.lazy_group import LazyGroup

__all__ = ["demo"]

CELLS = ("rnn", "lstm")
STEPS, QUICK_STEPS = 200, 10
REPORT = Path("gradreach-demo") / "report.html"

COMMANDS = {
    "smallest": (
        "gradreach.cli.smallest:smallest",
        "Train the one-neuron network and take its gradient apart step by step.",
    ),
}


@click.group("demo", cls=LazyGroup, lazy=COMMANDS, invoke_without_command=True)
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
    default=STEPS,
    show_default=True,
    help="Training steps of each network.",
)
@click.option("--quick", is_flag=True, help=f"Train {QUICK_STEPS} steps only.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
@click.pass_context
def demo(ctx: click.Context, out: Path, steps: int, quick: bool, as_json: bool) -> None:
    """Show how far back the gradient reaches, on real networks.

    Without a command: the one-neuron network in short, then next-word prediction on real
    English with nn.RNN and nn.LSTM, measured before and after training, and a report.
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
    _run(out, QUICK_STEPS if quick else steps, as_json)


def _was_given(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE


def _run(out: Path, steps: int, as_json: bool) -> None:
    """Compute and print part by part; imports here, or `--help` would wait for torch."""
    from gradreach.cli.demo_json import demo_as_plain
    from gradreach.cli.demo_text import (
        UNIT,
        next_word_lines,
        smallest_lines,
        text_lines,
        verdict_sentences,
    )
    from gradreach.cli.example import load_example
    from gradreach.cli.smallest import run_demo
    from gradreach.report.html import Section, write_report
    from gradreach.report.sentences import verdict
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

    from gradreach.cli.next_word import load_text, measure_next_word

    # These networks are small: on two shared cores a second thread cost four times the time.
    torch.set_num_threads(1)
    text = load_text(load_example("next_word"))
    say([*text_lines(text), ""])
    runs = []
    for cell in CELLS:
        with _progress(f"training nn.{cell.upper()}", steps) as advance:
            runs.append(measure_next_word(text, cell, steps=steps, progress=advance))
        say([*next_word_lines(runs[-1]), ""])

    said = verdict_sentences(runs)
    say(["Verdict", *(line for sentence in said for line in wrapped(sentence))])
    sections = [
        Section(
            title=f"{run.name}, {'at the start' if not s.steps else f'after {s.steps} steps'}",
            flow=s.flow,
            last_step=s.last_word,
            remarks=tuple(verdict(s.flow, unit=UNIT)),
        )
        for run in runs
        for s in (run.start, run.trained)
    ]
    seconds = time.perf_counter() - started
    notes = [
        f"examples/next_word.py: {len(text.train):,} words of Python's language reference; its "
        "own model, loss and training step; dropout on, as in training.",
        f"The whole demo took {seconds:.0f} s.",
    ]
    write_report(
        out, "How far back the gradient of next-word prediction reaches", said, sections,
        notes=notes, unit=UNIT,
    )  # fmt: skip
    if as_json:
        plain = demo_as_plain(one_neuron, text, runs, said)
        told = {**plain, "report": str(out), "seconds": round(seconds, 1)}
        click.echo(json.dumps(told, allow_nan=False))
    else:
        click.echo(f"\nReport: {out}")


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
