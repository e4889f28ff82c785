"""``gradreach train``: one built-in task, trained, watched and judged."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from gradreach.cli.lazy_group import HELP
from gradreach.runs.folder import RunFolderError

__all__ = ["train"]

# Named here: the modules that define them import torch, for which `--help` must not wait. A test
# compares the lists.
TASKS = (
    "first_bit", "adding", "multiplication", "copy_memory", "selective_copy", "temporal_order",
    "temporal_order_3", "random_permutation", "delayed_xor", "noise_padded", "pixel_digits",
    "permuted_digits", "co2", "sunspots",
)  # fmt: skip
CELLS = ("rnn", "gru", "lstm")
OPTIMIZERS = ("adam", "sgd", "rmsprop")


def _bias(context: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    """Read a number or the word ``chrono``."""
    if value in (None, "chrono"):
        return value
    return click.FLOAT(value, parameter, context)


@click.command(
    context_settings=HELP,
    epilog="Under torchrun each process trains on its share of every batch (gloo), and the first "
    "one writes and speaks.",
)
@click.option("--length", type=click.IntRange(1), metavar="N",
              help="Steps of a sequence (copy_memory, delayed_xor: the delay).")  # fmt: skip
@click.option("--cell", type=click.Choice(CELLS), default="gru", show_default=True)
@click.option("--hidden", type=click.IntRange(1), default=64, show_default=True,
              help="Units of the layer.")  # fmt: skip
@click.option("--activation", metavar="NAME", help="relu, leaky_relu …; tanh without it.")
@click.option("--init", metavar="NAME",
              help="Recurrent weights: identity, orthogonal, np-rnn …")  # fmt: skip
@click.option("--forget-bias", callback=_bias, metavar="B",
              help="A number, or chrono, which fits the gates to the task's lag.")  # fmt: skip
@click.option("--skip", type=click.IntRange(2), multiple=True, metavar="S",
              help="Connect each state with the one S steps before; may be repeated.")  # fmt: skip
@click.option("--residual", is_flag=True, help="Add the previous state to the next.")
@click.option("--clip", type=click.FloatRange(0, min_open=True), metavar="NORM",
              help="Clip the gradient to this norm.")  # fmt: skip
@click.option("--optimizer", type=click.Choice(OPTIMIZERS), default="adam", show_default=True)
@click.option("--lr", type=click.FloatRange(0, min_open=True), default=0.003, show_default=True,
              help="Learning rate.")  # fmt: skip
@click.option("--batch", type=click.IntRange(1), default=32, show_default=True,
              help="Sequences of a step.")  # fmt: skip
@click.option("--steps", type=click.IntRange(1), default=1000, show_default=True,
              help="Optimizer steps.")  # fmt: skip
@click.option("--stop-when-solved", is_flag=True,
              help="End where the criterion is met twice in a row.")  # fmt: skip
@click.option("--test", type=click.IntRange(1), default=1000, show_default=True,
              help="Held-out sequences, where they are generated.")  # fmt: skip
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True,
              help="The same seed gives the same bits for one number of threads.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--run", "--run-folder", "folder", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Where to write records; default gradreach-runs/TASK-TIME.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.argument("task", type=click.Choice(TASKS), metavar="TASK")
@click.pass_context
def train(
    context: click.Context,
    /,
    task: str,
    length: int | None,
    folder: Path | None,
    as_json: bool,
    **chosen: Any,
) -> int:
    """Train one built-in task, watched, and say how well it went.

    TASK is one of first_bit, adding, multiplication, copy_memory, selective_copy, temporal_order,
    temporal_order_3, random_permutation, delayed_xor, noise_padded, pixel_digits,
    permuted_digits, co2, sunspots.
    """
    from gradreach.cli.train_run import TrainRequest, told, train_task
    from gradreach.tasks.catalogue import task_named
    from gradreach.training.ranks import joined_ranks

    with joined_ranks() as ranks:
        try:
            made = task_named(task, length)
            request = TrainRequest.of(made, chosen)
            run = folder or _fresh(task)
            quiet = as_json or not sys.stderr.isatty()
            result = train_task(made, request, ranks, run, quiet=quiet)
        except (ValueError, RunFolderError) as error:
            raise click.UsageError(str(error), context) from error
        if not ranks.is_first:
            return 0
        click.echo(told(result, as_json=as_json))
        # A launcher would take any other code for a crash.
        return result.exit_code if ranks.size == 1 else 0


def _fresh(task: str) -> Path:
    """Return a path for the run that is not taken; whoever makes the folder first has it."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for count in range(1, 1000):
        path = Path("gradreach-runs") / (f"{task}-{stamp}" + (f"-{count}" if count > 1 else ""))
        if not path.exists():
            return path
    raise RunFolderError("no free name for a run folder in 'gradreach-runs': name one with --run")
