"""Measures examples/next_word.py, an ordinary training script, before and after training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradreach.diagnosis.diagnose import diagnose
from gradreach.flow.measure import measure
from gradreach.records import GradientFlow, LayerFlow
from gradreach.records.finding import Finding

__all__ = ["NextWordRun", "Stage", "Text", "load_text", "measure_next_word"]

# Word losses followed back, spread over the window: the profile of 20 differs from that of all
# 60 by less than that of one batch from the next, in a third of the time.
PROBES = 20


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """The example's text as its own functions number it."""

    example: ModuleType
    train: Tensor
    vocabulary: dict[str, int]

    def spelt(self, numbers: Tensor) -> list[str]:
        """Return the words behind some numbers."""
        words = list(self.vocabulary)  # the example numbers them in this order
        return [words[number] for number in numbers.tolist()]


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """One model after some training steps, on always the same windows of text.

    Attributes:
        steps: Training steps so far.
        flow: Measured with the script's own loss, over every word.
        last_word: Measured with the loss of each window's last word alone: only here is the
            contribution of a time step the contribution of a distance.
        findings: What `diagnose` says of ``flow``; how far the task looks back it is not told.
    """

    steps: int
    flow: GradientFlow
    last_word: GradientFlow
    findings: tuple[Finding, ...]

    @property
    def farthest(self) -> LayerFlow:
        """The layer whose gradient reaches farthest."""
        return max(self.flow.layers.values(), key=lambda layer: layer.reach() or 0)


@dataclass(frozen=True, slots=True, eq=False)
class NextWordRun:
    """One cell measured at the start and after training.

    Attributes:
        cell: As the script names it: ``"rnn"``, ``"lstm"``.
        name: As torch names it.
        layers: Number of layers. hidden: units of each. batch: windows measured.
        window: The words of one of the windows measured, oldest first.
        target: The word after it.
    """

    cell: str
    name: str
    layers: int
    hidden: int
    batch: int
    start: Stage
    trained: Stage
    window: list[str]
    target: str


def load_text(example: ModuleType) -> Text:
    """Read the text with the example's own functions.

    Args:
        example: The module of examples/next_word.py.

    Example:
        >>> from gradreach.cli.example import load_example
        >>> text = load_text(load_example("next_word"))
        >>> len(text.train) > 40_000, text.spelt(text.train[:2]) != []
        (True, True)
    """
    words, _ = example.load_words()
    vocabulary = example.build_vocabulary(words)
    return Text(example, example.encode(words, vocabulary), vocabulary)


def measure_next_word(
    text: Text,
    cell: str,
    *,
    steps: int,
    seed: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> NextWordRun:
    """Build the example's model, measure it, train it with the example's own step, measure again.

    Args:
        text: What `load_text` returned.
        cell: ``"rnn"``, ``"lstm"`` or ``"gru"``.
        steps: Training steps in between.
        seed: As the script's ``--seed``.
        progress: Called after every training step.

    Cost:
        About 0.1 s a step and 1 s a measurement.

    Example:
        >>> from gradreach.cli.example import load_example
        >>> run = measure_next_word(load_text(load_example("next_word")), "rnn", steps=1)
        >>> list(run.trained.flow.layers), run.trained.last_word.layers["rnn.l0"].loss_steps
        (['rnn.l0', 'rnn.l1'], (59,))
    """
    example = text.example
    args = example.parse_args(["--cell", cell, "--seed", str(seed), "--steps", str(steps)])
    torch.manual_seed(args.seed)
    windows = torch.Generator().manual_seed(args.seed)  # of its own: the same for every cell
    model = example.build_model(args, len(text.vocabulary))
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    stream = example.batches(text.train, seq_len=args.seq_len, batch=args.batch, generator=windows)
    inputs, targets = next(stream)  # measured at both stages, not trained on

    start = _stage(example, model, inputs, targets, 0)
    _train(example, model, optimizer, stream, args.steps, progress)
    trained = _stage(example, model, inputs, targets, args.steps)
    window, target = text.spelt(inputs[0]), text.spelt(targets[0, -1:])[0]
    return NextWordRun(
        cell=cell,
        name=f"nn.{type(model.rnn).__name__}",
        layers=args.layers,
        hidden=args.hidden,
        batch=args.batch,
        start=start,
        trained=trained,
        window=window,
        target=target,
    )


def _stage(
    example: ModuleType, model: nn.Module, inputs: Tensor, targets: Tensor, steps: int
) -> Stage:
    model.train()  # as in training: dropout is on

    def every_word() -> Tensor:
        loss: Tensor = example.next_word_loss(model, inputs, targets)
        return loss

    def last_word() -> Tensor:
        return F.cross_entropy(model(inputs)[:, -1], targets[:, -1])

    # measure() gives the random streams back, so that both losses see the same dropout masks.
    flow = measure(model, every_word, lag_probes=PROBES)
    return Stage(steps, flow, measure(model, last_word), tuple(diagnose(flow)))


def _train(
    example: ModuleType,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    stream: Iterator[tuple[Tensor, Tensor]],
    steps: int,
    progress: Callable[[], None],
) -> None:
    for _ in range(steps):
        example.train_step(model, optimizer, *next(stream))
        progress()
