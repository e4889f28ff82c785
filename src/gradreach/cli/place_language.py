"""Measures examples/place_language.py: does the gradient reach a word 50 words back?"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradreach.diagnosis.diagnose import diagnose
from gradreach.errors import require
from gradreach.flow.measure import measure
from gradreach.records import GradientFlow, LayerFlow
from gradreach.records.finding import Finding

__all__ = [
    "NEEDED",
    "OPTIONS",
    "Accuracy",
    "PlaceData",
    "PlaceRun",
    "PlaceStage",
    "load_place",
    "measure_place",
]

NEEDED = 50  # words between the place and its language
DISTANCES = (2, 4, 10, NEEDED)
TEST_SENTENCES = 200
# The script's own options. Five times its default learning rate: with it, 250 steps suffice.
OPTIONS = ("--lr", "0.005", "--train-distances", *map(str, DISTANCES))


@dataclass(frozen=True, slots=True, eq=False)
class PlaceData:
    """What the example's sentences are made of, as its own functions load it."""

    example: ModuleType
    train: Any
    held_out: Any
    vocabulary: dict[str, int]

    @property
    def places(self) -> int:
        """How many places there are, each with its language."""
        return len(self.train.answers[self.example.PLACE_TO_LANGUAGE])


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How often the best-scored of all words is the right one, on held-out sentences.

    Attributes:
        to_language: A place asks for its language. to_place: the other way round.
        majority: Both directions, if one always answered with the commonest answer.
    """

    to_language: float
    to_place: float
    majority: float

    @property
    def mean(self) -> float:
        """Of both directions."""
        return (self.to_language + self.to_place) / 2


@dataclass(frozen=True, slots=True, eq=False)
class PlaceStage:
    """One model after some training steps, on always the same sentences.

    Attributes:
        steps: Training steps so far.
        flow: Measured with the loss of the dependent word alone.
        findings: What `diagnose` says of it, given that the task looks `NEEDED` steps back.
        accuracy: By distance; empty where it was not tested.
    """

    steps: int
    flow: GradientFlow
    findings: tuple[Finding, ...]
    accuracy: Mapping[int, Accuracy]

    @property
    def layer(self) -> LayerFlow:
        """The model's only layer."""
        return next(iter(self.flow.layers.values()))

    @property
    def problems(self) -> tuple[Finding, ...]:
        """The findings that are more than notes."""
        return tuple(found for found in self.findings if found.severity != "note")

    @property
    def left(self) -> float:
        """What is left of the gradient `NEEDED` words back; NaN where it was not followed."""
        profile = self.layer.lag_profile
        return float(profile[NEEDED]) if len(profile) > NEEDED else math.nan


@dataclass(frozen=True, slots=True, eq=False)
class PlaceRun:
    """One cell measured at the start and, where it was trained, after training.

    Attributes:
        cell: As the script names it.
        name: As a reader knows it.
        hidden: Units. batch: sentences measured.
        stages: The start first.
    """

    cell: str
    name: str
    hidden: int
    batch: int
    stages: tuple[PlaceStage, ...]


def load_place(example: ModuleType) -> PlaceData:
    """Load facts and text with the example's own functions.

    Args:
        example: The module of examples/place_language.py.

    Raises:
        MissingExtraError: `babel`, from which the facts come, is not installed.
    """
    require("babel", extra="data", purpose="This part of the demo")
    train, held_out = example.load_data()
    vocabulary = example.build_vocabulary(train, example.parse_args([]).common_words)
    return PlaceData(example, train, held_out, vocabulary)


def measure_place(
    data: PlaceData,
    cell: str,
    *,
    steps: int,
    seed: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> PlaceRun:
    """Build the example's model, diagnose it, train it with the example's own step, diagnose again.

    Args:
        data: What `load_place` returned.
        cell: ``"rnn"``, ``"lstm"``, ``"gru"`` or ``"chrono"``.
        steps: Training steps; with 0, only the start is measured.
        seed: As the script's ``--seed``: the training is the script's own, number for number.
        progress: Called after every training step.

    Cost:
        About 0.02 s a step and 1 s a measurement.
    """
    example = data.example
    args = example.parse_args(["--cell", cell, "--seed", str(seed), *OPTIONS])
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    model = example.build_model(args, len(data.vocabulary))
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    measured = example.make_batch(
        data.train, data.vocabulary, distance=NEEDED, batch=args.batch, rng=random.Random("measure")
    )
    stages = [_stage(model, measured, 0, {})]
    for _ in range(steps):
        distance = rng.choice(args.train_distances)
        batch = example.make_batch(
            data.train, data.vocabulary, distance=distance, batch=args.batch, rng=rng
        )
        example.train_step(
            model, optimizer, batch, clip=args.clip, answer_weight=args.answer_weight
        )
        progress()
    if steps:
        stages.append(_stage(model, measured, steps, _accuracy(data, model, DISTANCES)))
    kind = f"nn.{type(model.rnn).__name__}"
    return PlaceRun(
        cell=cell,
        name=f"{kind}, chrono biases" if cell == "chrono" else kind,
        hidden=args.hidden,
        batch=args.batch,
        stages=tuple(stages),
    )


def _stage(
    model: nn.Module, measured: Any, steps: int, accuracy: Mapping[int, Accuracy]
) -> PlaceStage:
    """Measure the model with the loss of the dependent word alone: this one needs the distance."""
    rows = torch.arange(len(measured.inputs))

    def answers() -> Tensor:
        logits = model(measured.inputs)[rows, measured.answer_at]
        return F.cross_entropy(logits, measured.targets[rows, measured.answer_at])

    model.train()
    flow = measure(model, answers)
    return PlaceStage(steps, flow, tuple(diagnose(flow, needs_lag=NEEDED)), accuracy)


def _accuracy(data: PlaceData, model: nn.Module, distances: Sequence[int]) -> dict[int, Accuracy]:
    """Test on held-out templates and text, as the script does at its end."""
    tested = {}
    for distance in distances:
        test = data.example.make_batch(
            data.held_out,
            data.vocabulary,
            distance=distance,
            batch=TEST_SENTENCES,
            rng=random.Random(f"test {distance}"),
        )
        majority, _ = data.example.baselines(test)
        to_language, to_place = data.example.accuracy(model, test)
        tested[distance] = Accuracy(to_language, to_place, majority)
    return tested
