"""The cases of fused layers: every triple of settings that can occur together, in few models.

A case is data; `build` makes the module, its input and its loss from it, the same every time.
The list is computed, not drawn: a greedy cover with a fixed seed.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from typing import Any, NamedTuple

import torch
from tests.oracles.unrolled import Loss, unroll_module
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

CHOICES: dict[str, tuple[Any, ...]] = {
    "kind": ("RNN_TANH", "RNN_RELU", "GRU", "LSTM"),
    "layers": (1, 2, 3),
    "bidirectional": (False, True),
    "batch_first": (False, True),
    "bias": (True, False),
    "layout": ("padded", "packed", "packed unsorted", "unbatched"),
    "given_state": (False, True),
    "dropout": (0.0, 0.4),
    "dtype": (torch.float32, torch.float64),
    "loss": ("last step", "every step", "final state"),
}

LENGTHS = {"packed": (11, 9, 4), "packed unsorted": (5, 12, 9, 12)}


@dataclass(frozen=True)
class FusedCase:
    """One model, one batch, one loss."""

    kind: str
    layers: int
    bidirectional: bool
    batch_first: bool
    bias: bool
    layout: str
    given_state: bool
    dropout: float
    dtype: torch.dtype
    loss: str
    steps: int = 10
    batch: int = 3
    hidden: int = 4
    seed: int = 0
    projection: int = 0

    def __str__(self) -> str:
        words = [self.kind, f"{self.layers}x{self.hidden}", self.layout, f"T{self.steps}"]
        words += [name for name in ("bidirectional", "batch_first") if getattr(self, name)]
        words += [] if self.bias else ["no bias"]
        words += ["h0 given"] if self.given_state else []
        words += [f"proj {self.projection}"] if self.projection else []
        words += [f"dropout {self.dropout}"] if self.dropout else []
        return ", ".join([*words, str(self.dtype).removeprefix("torch."), self.loss])


class Built(NamedTuple):
    """What a case becomes."""

    module: nn.RNNBase
    input: Any
    hx: Any
    loss: Loss


def covering_cases(strength: int = 3, seed: int = 20) -> list[FusedCase]:
    """List cases in which every possible combination of `strength` settings occurs."""
    rng = random.Random(seed)
    names = list(CHOICES)
    open_combinations = {
        combination
        for chosen in itertools.combinations(range(len(names)), strength)
        for values in itertools.product(*(CHOICES[names[i]] for i in chosen))
        if possible(combination := tuple(zip(chosen, values, strict=True)))
    }
    cases: list[FusedCase] = []
    while open_combinations:
        # The next case settles the first open combination and as many others as it can.
        wanted = min(open_combinations, key=repr)
        best = max(
            candidates(wanted, rng, 40), key=lambda row: len(open_combinations & met(row, strength))
        )
        open_combinations -= met(best, strength)
        number = len(cases)
        steps, batch = 7 + (5 * number) % 14, 1 + number % 4
        cases.append(FusedCase(*best, steps=steps, batch=batch, hidden=3 + number % 4))
    return cases


def possible(combination: tuple[tuple[int, Any], ...]) -> bool:
    """Say whether torch can do this: dropout stands between layers only."""
    named = {list(CHOICES)[index]: value for index, value in combination}
    return not (named.get("layers") == 1 and named.get("dropout", 0.0) > 0)


def candidates(
    wanted: tuple[tuple[int, Any], ...], rng: random.Random, count: int
) -> Iterator[tuple[Any, ...]]:
    """Draw full rows of settings that contain the wanted combination."""
    while count:
        row = [rng.choice(values) for values in CHOICES.values()]
        for index, value in wanted:
            row[index] = value
        if possible(tuple(enumerate(row))):
            count -= 1
            yield tuple(row)


def met(row: tuple[Any, ...], strength: int) -> set[tuple[tuple[int, Any], ...]]:
    """List the combinations that occur in a row."""
    return set(itertools.combinations(enumerate(row), strength))


def build(case: FusedCase) -> Built:
    """Make a case's module, input and loss, such that float32 can say what float64 says.

    A ReLU net stays clear of the kink, where a pre-activation within float32's rounding of 0 has
    one derivative in float32 and another in float64, and alive. A tanh net stays out of
    saturation, where 1 - h² of a float32 state has few digits left. A draw that does not proves
    nothing about a tool, so the next seed is taken.
    """
    for seed in range(case.seed, case.seed + 200):
        built = _build(replace(case, seed=seed))
        if case.kind in ("GRU", "LSTM") or is_well_posed(case, built):
            return built
    raise AssertionError(f"no seed keeps {case} well posed")


def is_well_posed(case: FusedCase, built: Built) -> bool:
    """Say whether a simple RNN stays clear of the kink, of death and of saturation."""
    ((call,),) = unroll_module(built.module, [built.input], hx=built.hx)
    if case.kind == "RNN_RELU":
        alive = all(bool((part != 0).any()) for part in (call.output[-1], call.final[0][-1]))
        return alive and call.relu_margin > 1e-4
    states = [h for chain in call.chains.values() for (h,) in chain.states]
    # 6e-8 / 0.05, the error of one step, leaves room for the eight that TOLERANCE would bear.
    return (
        case.dtype == torch.float64 or float(torch.stack(states).detach().abs().max()) < 0.95**0.5
    )


def _build(case: FusedCase) -> Built:
    generator = torch.Generator().manual_seed(case.seed)

    def draw(*shape: int, scale: float = 1.0) -> Tensor:
        return (scale * torch.randn(*shape, generator=generator, dtype=torch.float64)).to(
            case.dtype
        )

    module = make_module(case)
    with torch.no_grad():
        for parameter in module.parameters():
            # Mild on purpose: neither chaotic nor saturated, so that rounding stays rounding.
            parameter.copy_(draw(*parameter.shape, scale=0.6 * case.hidden**-0.5))
    lengths = LENGTHS.get(case.layout)
    batch = len(lengths) if lengths else case.batch
    rows = case.layers * (2 if case.bidirectional else 1)
    if case.layout == "unbatched":
        input: Any = draw(case.steps, 3)
        shape: tuple[int, ...] = (rows, case.hidden)
    else:
        steps = max(lengths) if lengths else case.steps
        input = draw(*((batch, steps) if case.batch_first else (steps, batch)), 3)
        shape = (rows, batch, case.hidden)
    if lengths:
        input = pack_padded_sequence(
            input,
            torch.tensor(lengths),
            batch_first=case.batch_first,
            enforce_sorted=case.layout == "packed",
        )
    hx: Any = None
    if case.given_state:
        hx = draw(*shape)
        if case.kind == "LSTM":
            hx = (hx[..., : case.projection or None], draw(*shape))
    return Built(module, input, hx, make_loss(case))


def make_module(case: FusedCase) -> nn.RNNBase:
    """Make a case's module, in train mode."""
    common = {
        "num_layers": case.layers,
        "bias": case.bias,
        "batch_first": case.batch_first,
        "dropout": case.dropout,
        "bidirectional": case.bidirectional,
        "dtype": case.dtype,
    }
    if case.kind == "GRU":
        return nn.GRU(3, case.hidden, **common)
    if case.kind == "LSTM":
        return nn.LSTM(3, case.hidden, proj_size=case.projection, **common)
    nonlinearity = case.kind.removeprefix("RNN_").lower()
    return nn.RNN(3, case.hidden, nonlinearity=nonlinearity, **common)


def make_loss(case: FusedCase) -> Loss:
    """Make a case's loss: squared distances to fixed targets, written as a user would."""

    def loss(returned: list[tuple[Any, Any]]) -> Tensor:
        value = torch.zeros((), dtype=torch.float64)
        for output, state in returned:
            if case.loss == "final state":
                for part in state if isinstance(state, tuple) else (state,):
                    value = value + distance(part)
            elif case.loss == "every step":
                value = value + distance(steps_first(case, output)[0])
            else:
                padded, lengths = steps_first(case, output)
                value = value + distance(padded[lengths - 1, torch.arange(len(lengths))])
        return value

    return loss


def steps_first(case: FusedCase, output: Any) -> tuple[Tensor, Tensor]:
    """Bring what a module returned to `(T, B, D·H)` and say how long its rows are."""
    if isinstance(output, PackedSequence):
        return pad_packed_sequence(output)
    if output.dim() == 2:
        output = output.unsqueeze(1)
    elif case.batch_first:
        output = output.transpose(0, 1)
    return output, torch.full((output.shape[1],), len(output))


def distance(values: Tensor) -> Tensor:
    """Mean squared distance to a fixed pattern, in the values' own dtype."""
    pattern = torch.sin(1.0 + torch.arange(values.numel(), dtype=torch.float64))
    return (values - pattern.to(values.dtype).view(values.shape)).square().mean()


def settings(case: FusedCase) -> tuple[Any, ...]:
    """The settings of a case in the order of `CHOICES`."""
    return astuple(case)[: len(CHOICES)]
