"""Cells that users write themselves agree with an unrolled autograd reference."""

from __future__ import annotations

import dataclasses
import importlib.util
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import gradreach as gr
from gradreach.errors import NotMeasurableError
from tests.conftest import Lacks

F64 = torch.float64
T, B, I, H = 12, 3, 4, 5
EXACT = 1e-10  # float64: rounding of a few dozen steps stays below 1e-13

# ----------------------------------------------------------------- the reference


class Unrolled(NamedTuple):
    """What autograd itself says, with each step's parameters told apart."""

    states: list[list[Tensor]]  # by step, by part
    terms: dict[str, list[Tensor]]  # by parameter, by step


class Watched(nn.Module):
    """Stands in a cell's place: gives each call its own copy of the parameters.

    Contributions are then plain gradients of those copies, and state gradients those of the
    tensors that the calls returned: autograd on the whole graph, nothing of gradreach.
    """

    def __init__(self, cell: nn.Module, parts: Callable[[Any], list[Tensor]]) -> None:
        super().__init__()
        self.cell, self.parts = cell, parts
        self.copies: list[dict[str, Tensor]] = []
        self.returned: list[list[Tensor]] = []

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        own = {n: p.detach().clone().requires_grad_() for n, p in self.cell.named_parameters()}
        found = torch.func.functional_call(self.cell, own, args, kwargs)
        self.copies.append(own)
        self.returned.append(self.parts(found))
        return found


def unrolled(
    model: nn.Module, name: str, loss: Callable[[], Tensor], parts: Callable[[Any], list[Tensor]]
) -> Unrolled:
    """Run ``loss`` with the cell ``name`` watched, and differentiate."""
    holder = model.get_submodule(name.rpartition(".")[0])
    last = name.rpartition(".")[2]
    cell = getattr(holder, last)
    watched = Watched(cell, parts)
    setattr(holder, last, watched)
    streams = torch.get_rng_state()
    try:
        value = loss()
    finally:
        setattr(holder, last, cell)
        torch.set_rng_state(streams)
    states = [tensor for step in watched.returned for tensor in step]
    copies = [tensor for step in watched.copies for tensor in step.values()]
    found = torch.autograd.grad(value, states + copies, allow_unused=True)
    filled = [
        torch.zeros_like(tensor) if gradient is None else gradient
        for tensor, gradient in zip(states + copies, found, strict=True)
    ]
    rest = iter(filled)
    by_step = [[next(rest) for _ in step] for step in watched.returned]
    terms: dict[str, list[Tensor]] = {n: [] for n in watched.copies[0]}
    for step in watched.copies:
        for n in step:
            terms[n].append(next(rest))
    return Unrolled(by_step, terms)


def error(found: Any, expected: Tensor) -> float:
    """Return the largest difference relative to the largest entry."""
    other = expected.detach().double().numpy()
    peak = float(np.abs(other).max())
    difference = float(np.abs(np.asarray(found).reshape(other.shape) - other).max())
    return difference / peak if peak > 0 else difference


def agrees(
    model: nn.Module,
    name: str,
    loss: Callable[[], Tensor],
    parts: Callable[[Any], list[Tensor]],
    keys: tuple[str, ...] = ("h",),
    *,
    declared: bool = False,
    bound: float = EXACT,
) -> gr.LayerFlow:
    """Measure, and compare every state gradient and every contribution with the reference."""
    expected = unrolled(model, name, loss, parts)
    flow = gr.measure(model, loss, cells=[name] if declared else None)
    assert not flow.blind, flow.blind
    layer = flow.layers[name]
    assert layer.steps == len(expected.states)
    assert layer.source == "cells"
    for place, key in enumerate(keys):
        reference = torch.stack([step[place] for step in expected.states])
        assert float(reference.abs().max()) > 0
        assert error(layer.state_gradients(key), reference) < bound, key
    seen = 0
    for parameter, terms in expected.terms.items():
        stacked = torch.stack(terms)
        if not bool(stacked.any()):
            continue
        seen += 1
        peak = float(stacked.abs().max())
        for step, term in enumerate(terms):
            own = layer.contribution(parameter, step)
            assert np.abs(own - term.numpy()).max() < bound * peak, (parameter, step)
        norms = stacked.flatten(1).norm(dim=1)
        assert error(layer.contributions[parameter], norms) < bound
        total = stacked.sum(0)
        shares = (stacked * total).flatten(1).sum(1) / total.square().sum()
        assert error(layer.shares[parameter], shares) < bound * 10
        if layer.closure_reference[parameter] == "backward":
            assert layer.closure_error[parameter] < bound
    assert seen
    return layer


# ----------------------------------------------------------------- cells and their loops


class Tanh(nn.Module):
    """h' = tanh(W h + U x), returned in any of the shapes users return it in."""

    def __init__(self, form: str = "alone", inputs: int = I, size: int = H) -> None:
        super().__init__()
        self.recurrent = nn.Linear(size, size, dtype=F64)
        self.input = nn.Linear(inputs, size, bias=False, dtype=F64)
        self.form = form

    def forward(self, x: Tensor, state: Any) -> Any:
        h = torch.tanh(self.recurrent(taken(state, self.form)) + self.input(x))
        return wrapped(h, self.form)


@dataclasses.dataclass(frozen=True)
class State:
    hidden: Tensor
    count: int


def taken(state: Any, form: str) -> Tensor:
    if form == "tuple":
        return state[0]
    if form == "dict":
        return state["hidden"]
    return state.hidden if form == "dataclass" else state


def wrapped(h: Tensor, form: str) -> Any:
    if form == "tuple":
        return (h,)
    if form == "dict":
        return {"hidden": h, "step": 1}
    return State(h, 1) if form == "dataclass" else h


class Loop(nn.Module):
    """Runs a cell over ``(T, B, I)`` and reads out every step."""

    def __init__(self, cell: nn.Module, size: int = H) -> None:
        super().__init__()
        self.cell = cell
        self.readout = nn.Linear(size, 2, dtype=F64)

    def forward(self, x: Tensor) -> Tensor:
        form = self.cell.form
        state = wrapped(x.new_zeros(x.shape[1], H), form)
        found = []
        for step in x:
            state = self.cell(step, state)
            found.append(self.readout(taken(state, form)))
        return torch.stack(found)


def sequence(steps: int = T, size: int = I) -> Tensor:
    return torch.randn(steps, B, size, dtype=F64)


def squares(model: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    return lambda: model(x).square().mean()


@pytest.mark.parametrize("declared", [False, True])
@pytest.mark.parametrize("form", ["alone", "tuple", "dict", "dataclass"])
def test_state_in_any_container(form: str, declared: bool) -> None:
    model, x = Loop(Tanh(form)), sequence()
    layer = agrees(model, "cell", squares(model, x), lambda out: [taken(out, form)],
                   declared=declared)  # fmt: skip
    assert layer.kind == "Tanh"
    assert layer.hidden_size == H
    assert layer.loss_steps == tuple(range(T))
    assert set(layer.closure_reference.values()) == {"backward"}
    assert max(layer.closure_error.values()) < 1e-12


class Linear(nn.Module):
    def __init__(self, rho: float, size: int, dtype: torch.dtype) -> None:
        super().__init__()
        orthogonal = torch.linalg.qr(torch.randn(size, size, dtype=F64))[0]
        self.weight = nn.Parameter((rho * orthogonal).to(dtype))
        self.form = "alone"

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return h @ self.weight.T + x


class LastOnly(nn.Module):
    def __init__(self, cell: nn.Module, size: int) -> None:
        super().__init__()
        self.cell, self.size = cell, size

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[1], self.size)
        for step in x:
            h = self.cell(step, h)
        return h


@pytest.mark.parametrize("rho", [0.5, 0.9, 1.0, 1.1])
def test_a_linear_cell_decays_by_rho_per_step(rho: float) -> None:
    model = LastOnly(Linear(rho, 8, F64), 8)
    x = sequence(60, 8)
    layer = gr.measure(model, squares(model, x)).layers["cell"]
    assert abs(layer.decay_per_step - rho) < 1e-6
    lags = np.arange(60)
    assert np.abs(layer.lag_profile / rho**lags - 1).max() < 1e-10


def test_float32_keeps_the_tail_that_autograd_loses() -> None:
    model = LastOnly(Linear(0.7, 8, torch.float32), 8)
    x = torch.randn(300, B, 8)
    layer = gr.measure(model, squares(model, x)).layers["cell"]
    assert layer.dtype == "float32"
    assert bool((layer.per_sample > 0).all())
    ratios = layer.state_gradient_norms[1:] / layer.state_gradient_norms[:-1]
    # The weight is 0.7 Q rounded to float32: each step is right to a few roundings of it.
    assert np.abs(ratios * 0.7 - 1).max() < 1e-5
    h = x.new_zeros(B, 8)
    states = [h := model.cell(step, h) for step in x]
    plain = torch.autograd.grad(states[-1].square().mean(), states)
    assert not bool(plain[0].any())  # autograd's own float32 pass has lost it


# ----------------------------------------------------------------- torchrecurrent

CELLS = ("ATRCell", "AntisymmetricRNNCell", "BRCell", "CFNCell", "DSGUCell", "FastGRNNCell", "FastRNNCell", "GatedAntisymmetricRNNCell", "IndRNNCell", "IntersectionRNNCell", "JANETCell", "LEMCell", "LiGRUCell", "LightRUCell", "MCLSTMCell", "MGUCell", "MUT1Cell", "MUT2Cell", "MUT3Cell", "MiRU1Cell", "MiRU2Cell", "MinimalRNNCell", "MultiplicativeLSTMCell", "NASCell", "NBRCell", "OriginalLSTMCell", "PeepholeLSTMCell", "RANCell", "ResLSTMCell", "SCRNCell", "SGRNCell", "SGUCell", "STARCell", "TGRUCell", "TLSTMCell", "TRNNCell", "UGRNNCell", "UnICORNNCell", "WMCLSTMCell", "coRNNCell", "tauGRUCell")


class Driven(nn.Module):
    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        state: Any = None
        found = []
        for step in x:
            state = self.cell(step, state)
            found.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(found)


def all_parts(out: Any) -> list[Tensor]:
    return list(out) if isinstance(out, tuple) else [out]


@pytest.mark.parametrize("kind", CELLS)
def test_cells_of_torchrecurrent(kind: str, lacks: Lacks) -> None:
    if importlib.util.find_spec("torchrecurrent") is None:
        lacks("torchrecurrent")
    import torchrecurrent

    if not hasattr(torchrecurrent, kind):
        lacks(f"torchrecurrent.{kind}")
    model = Driven(getattr(torchrecurrent, kind)(I, H).double())
    x = sequence()
    out = model.cell(x[0], None)
    keys = tuple(map(str, range(len(out)))) if isinstance(out, tuple) else ("h",)
    agrees(model, "cell", squares(model, x), all_parts, keys)
