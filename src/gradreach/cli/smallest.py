"""`gradreach demo smallest`: the one-neuron network trained, unrolled and explained."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import click

from gradreach.cli.lazy_group import HELP
from gradreach.cli.smallest_text import exploded_lines, product_lines, term_lines, training_lines
from gradreach.flow.scalar_bptt import Activation, Loss, ScalarWeights, Unrolled, terms, unroll
from gradreach.tasks.first_bit import FIRST_BIT_SEQUENCES, FirstBit
from gradreach.training.smallest import (
    DEFAULT_EPOCHS,
    DEFAULT_LEARNING_RATE,
    LOSS_FLOOR_WITHOUT_BIAS,
    SmallestRun,
    train_smallest,
)

__all__ = ["SmallestDemo", "demo_as_dict", "demo_as_text", "run_demo", "smallest"]

ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
# An untrained network that answers the label 1 wrongly, so that there is a gradient to look at.
W_IN, W_OUT = 0.5, -1.0


@dataclass(frozen=True, slots=True)
class SmallestDemo:
    """Hold everything the demo computed; its text and its JSON are two views of it.

    Attributes:
        without_bias: One training a seed, three weights.
        with_bias: The same seeds with the hidden bias.
        passes: One forward pass for each setting and length, all lengths of a setting after
            one another, shortest first. The settings are activation by ``w_h``, then one with
            a negative ``w_in`` for each ReLU: its steps are not active.
        exploded: One exploded state under both losses.
    """

    without_bias: tuple[SmallestRun, ...]
    with_bias: tuple[SmallestRun, ...]
    passes: tuple[Unrolled, ...]
    exploded: tuple[Unrolled, ...]


def run_demo(
    *,
    steps: Sequence[int] = (3, 10, 100, 1000),
    activations: Sequence[Activation] = ACTIVATIONS,
    recurrent_weights: Sequence[float] = (0.5, 1.0, 1.5),
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    epochs: int = DEFAULT_EPOCHS,
    learning_rate: float = DEFAULT_LEARNING_RATE,
) -> SmallestDemo:
    """Train the network without and with its bias, and unroll it over every length asked for.

    The trainings use the first activation. The sequence of length 3 is 101; others begin with
    bit 1 and go on with the random bits of `FirstBit` under the first seed.

    Args:
        steps: Lengths T.
        activations: Each is combined with each of ``recurrent_weights``.
        recurrent_weights: Values of ``w_h``.
        seeds: One training without and one with the bias each.
        epochs: Updates of each training.
        learning_rate: Their step size.

    Raises:
        ValueError: A value is out of its range; the message names it.

    Cost:
        About 0.3 s a seed with the default epochs.

    Example:
        >>> demo = run_demo(steps=[3], seeds=[0], epochs=200)
        >>> demo.without_bias[0].learned_at, demo.with_bias[0].learned_at
        (None, 123)
    """
    settings = [(phi, w_h, W_IN) for phi in activations for w_h in recurrent_weights]
    middle = recurrent_weights[len(recurrent_weights) // 2]
    settings += [(phi, middle, -W_IN) for phi in activations if phi != "tanh"]
    passes = [
        unroll(ScalarWeights(w_in, w_h, W_OUT), _sequence(T, seeds[0]), 1, activation=phi)
        for phi, w_h, w_in in settings
        for T in sorted(set(steps))
    ]
    trained = {
        bias: tuple(
            train_smallest(
                seed,
                bias=bias,
                activation=activations[0],
                epochs=epochs,
                learning_rate=learning_rate,
            )
            for seed in seeds
        )
        for bias in (False, True)
    }
    exploded = tuple(_exploded(loss) for loss in get_args(Loss))
    return SmallestDemo(trained[False], trained[True], tuple(passes), exploded)


def _sequence(T: int, seed: int) -> tuple[float, ...]:
    if T == 3:
        return FIRST_BIT_SEQUENCES[0][0]
    bits = FirstBit(T).batch(1, seed)[0][0]
    return (1.0, *bits[1:].tolist())


def _exploded(loss: Loss) -> Unrolled:
    weights = ScalarWeights(W_IN, 1.5, W_OUT)
    return unroll(weights, (1,) + (0,) * 99, 1, activation="relu", loss=loss)


def demo_as_text(demo: SmallestDemo, *, every_step: bool = False) -> str:
    """Render the demo for a terminal of 80 columns; plain characters, no colour codes.

    Args:
        demo: What `run_demo` computed.
        every_step: Print every term of every pass, not those of the first pass alone.

    Example:
        >>> text = demo_as_text(run_demo(steps=[3, 10], seeds=[0], epochs=10))
        >>> max(len(line) for line in text.splitlines()) <= 80
        True
    """
    shown = demo.passes if every_step else demo.passes[:1]
    return "\n".join(
        [
            *training_lines(demo.without_bias, demo.with_bias),
            "",
            "3  One gradient as a sum over timesteps, the network still untrained",
            "  c_k = ∂L/∂ŷ·∂ŷ/∂h_T · product_k · ∂⁺h_k/∂w,  factor_t = φ'(a_t)·w_h,",
            "  product_k = factor_{k+1} · … · factor_T: T - k of them, exactly 1 for k = T",
            *(line for run in shown for line in term_lines(run, every_step=every_step)),
            "",
            "4  How much of the first step is left: log10 |product_1|, T - 1 factors",
            *product_lines(demo.passes),
            "",
            "5  When the state explodes",
            *exploded_lines(demo.exploded),
        ]
    )


def demo_as_dict(demo: SmallestDemo) -> dict[str, Any]:
    """Return the demo as plain data for JSON: every epoch, every timestep, every term.

    A number that is not finite is None; a ``log10`` of None is that of an exact 0.

    Args:
        demo: What `run_demo` computed.

    Example:
        >>> sorted(demo_as_dict(run_demo(steps=[3], seeds=[0], epochs=1)))
        ['exploded', 'flow', 'loss_floor_without_bias', 'schema_version', 'training']
    """
    return {
        "schema_version": 1,
        "loss_floor_without_bias": LOSS_FLOOR_WITHOUT_BIAS,
        "training": [_training_dict(run) for run in (*demo.without_bias, *demo.with_bias)],
        "flow": [_pass_dict(run) for run in demo.passes],
        "exploded": [_pass_dict(run) for run in demo.exploded],
    }


def _training_dict(run: SmallestRun) -> dict[str, Any]:
    return {
        "seed": run.seed,
        "bias": run.bias,
        "activation": run.activation,
        "loss": run.loss,
        "learning_rate": run.learning_rate,
        "learned_at": run.learned_at,
        "diverged_at": run.diverged_at,
        "epochs": {
            **{
                name: _plain(run.weights[:, i])
                for i, name in enumerate(("w_in", "w_h", "w_out", "b"))
            },
            "loss": _plain(run.losses),
            "correct": run.correct.tolist(),
        },
    }


def _pass_dict(run: Unrolled) -> dict[str, Any]:
    parts = {name: terms(run, name) for name in ("w_in", "w_h")}
    products = parts["w_h"].products
    return {
        "steps": len(run.inputs),
        "activation": run.activation,
        "w_in": run.weights.w_in,
        "w_h": run.weights.w_h,
        "w_out": run.weights.w_out,
        "loss": run.loss,
        "outcome": run.outcome,
        "loss_value": _plain([run.loss_value])[0],
        "loss_gradient": _plain([run.loss_gradient])[0],
        "prediction": run.prediction,
        "inputs": list(run.inputs),
        "target": run.target,
        "pre_activations": _plain(run.pre_activations),
        "states": _plain(run.states),
        "factors": _plain(run.factors),
        "factor_geometric_mean": _plain([run.factor_geometric_mean])[0],
        "products": {"log10": _plain(products.log10), "sign": products.signs.tolist()},
        "terms": {
            name: {
                "value": _plain(part.values.values),
                "log10": _plain(part.values.log10),
                "sign": part.values.signs.tolist(),
                "share": _plain(part.shares),
                "total": _plain([float(part.total.values)])[0],
                "reason": part.reason,
            }
            for name, part in parts.items()
        },
    }


def _plain(values: Iterable[float]) -> list[float | None]:
    return [float(value) if math.isfinite(value) else None for value in values]


@click.command("smallest", context_settings=HELP)
@click.option(
    "--steps",
    "-T",
    type=click.IntRange(min=1),
    multiple=True,
    default=(3, 10, 100, 1000),
    show_default=True,
    help="Length T of the unrolled sequence; repeatable.",
)
@click.option(
    "--activation",
    type=click.Choice(ACTIVATIONS),
    multiple=True,
    default=ACTIVATIONS,
    show_default=True,
    help="φ of the neuron; repeatable, the first one is trained.",
)
@click.option(
    "--w-h",
    type=float,
    multiple=True,
    default=(0.5, 1.0, 1.5),
    show_default=True,
    help="Recurrent weight of the unrolled network; repeatable.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    multiple=True,
    default=(0, 1, 2, 3, 4),
    show_default=True,
    help="Seed of a training; repeatable, the first one is printed.",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=0),
    default=DEFAULT_EPOCHS,
    show_default=True,
    help="Updates of each training.",
)
@click.option(
    "--learning-rate",
    type=float,
    default=DEFAULT_LEARNING_RATE,
    show_default=True,
    help="Step size of each training.",
)
@click.option("--every-step", is_flag=True, help="Print every term of every sequence.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def smallest(
    steps: tuple[int, ...],
    activation: tuple[Activation, ...],
    w_h: tuple[float, ...],
    seed: tuple[int, ...],
    epochs: int,
    learning_rate: float,
    every_step: bool,
    as_json: bool,
) -> None:
    """Train the one-neuron network and take its gradient apart step by step."""
    try:
        demo = run_demo(
            steps=steps,
            activations=activation,
            recurrent_weights=w_h,
            seeds=seed,
            epochs=epochs,
            learning_rate=learning_rate,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if as_json:
        click.echo(json.dumps(demo_as_dict(demo), allow_nan=False))
    else:
        click.echo(demo_as_text(demo, every_step=every_step))
