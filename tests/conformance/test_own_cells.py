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
from tests.conftest import Lacks
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import gradreach as gr
from gradreach.errors import NotMeasurableError

F64 = torch.float64
T, B, IN, H = 12, 3, 4, 5
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
        norms = stacked.reshape(len(terms), -1).norm(dim=1)
        assert error(layer.contributions[parameter], norms) < bound
        total = stacked.sum(0)
        shares = (stacked * total).reshape(len(terms), -1).sum(1) / total.square().sum()
        assert error(layer.shares[parameter], shares) < bound * 10
        if layer.closure_reference[parameter] == "backward":
            assert layer.closure_error[parameter] < bound
    assert seen
    return layer


# ----------------------------------------------------------------- cells and their loops


class Tanh(nn.Module):
    """h' = tanh(W h + U x), returned in any of the shapes users return it in."""

    def __init__(self, form: str = "alone", inputs: int = IN, size: int = H) -> None:
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
    """Runs a cell over ``(T, B, IN)`` and reads out every step."""

    def __init__(self, cell: nn.Module, size: int = H) -> None:
        super().__init__()
        self.cell, self.form = cell, cell.form
        self.readout = nn.Linear(size, 2, dtype=F64)

    def forward(self, x: Tensor) -> Tensor:
        form = self.form
        state = wrapped(x.new_zeros(x.shape[1], H), form)
        found = []
        for step in x:
            state = self.cell(step, state)
            found.append(self.readout(taken(state, form)))
        return torch.stack(found)


def sequence(steps: int = T, size: int = IN) -> Tensor:
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

# All of version 0.2.5 but IntersectionRNNCell, MCLSTMCell and TLSTMCell: what they return is not
# what they take as state.
CELLS = (
    "ATRCell",
    "AntisymmetricRNNCell",
    "BRCell",
    "CFNCell",
    "DSGUCell",
    "FastGRNNCell",
    "FastRNNCell",
    "GatedAntisymmetricRNNCell",
    "IndRNNCell",
    "JANETCell",
    "LEMCell",
    "LiGRUCell",
    "LightRUCell",
    "MGUCell",
    "MUT1Cell",
    "MUT2Cell",
    "MUT3Cell",
    "MiRU1Cell",
    "MiRU2Cell",
    "MinimalRNNCell",
    "MultiplicativeLSTMCell",
    "NASCell",
    "NBRCell",
    "OriginalLSTMCell",
    "PeepholeLSTMCell",
    "RANCell",
    "ResLSTMCell",
    "SCRNCell",
    "SGRNCell",
    "SGUCell",
    "STARCell",
    "TGRUCell",
    "TRNNCell",
    "UGRNNCell",
    "UnICORNNCell",
    "WMCLSTMCell",
    "coRNNCell",
    "tauGRUCell",
)


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
    """Return the tensors made by a call, each once: some cells return h twice, or their input."""
    parts = out if isinstance(out, tuple) else (out,)
    return list({id(part): part for part in parts if part.requires_grad}.values())


@pytest.mark.parametrize("kind", CELLS)
def test_cells_of_torchrecurrent(kind: str, lacks: Lacks) -> None:
    if importlib.util.find_spec("torchrecurrent") is None:
        lacks("torchrecurrent")
    import torchrecurrent

    if not hasattr(torchrecurrent, kind):
        lacks(f"torchrecurrent.{kind}")
    model = Driven(getattr(torchrecurrent, kind)(H, H).double())
    x = sequence(T, H)
    count = len(all_parts(model.cell(x[0], None)))
    keys = tuple(map(str, range(count))) if count > 1 else ("h",)
    agrees(model, "cell", squares(model, x), all_parts, keys)


# ----------------------------------------------------------------- loops as users write them


class Gated(nn.Module):
    """An LSTM of the user's own: h is computed from c inside the call; an output besides."""

    def __init__(self, inputs: int = IN) -> None:
        super().__init__()
        self.gates = nn.Linear(inputs + H, 4 * H, dtype=F64)
        self.readout = nn.Linear(H, 2, dtype=F64)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> Any:
        h, c = state
        i, f, g, o = self.gates(torch.cat([x, h], -1)).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        return self.readout(h), (h, c)


def zeros(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.new_zeros(x.shape[1], H), x.new_zeros(x.shape[1], H)


class Outputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = Gated()

    def forward(self, x: Tensor) -> Tensor:
        state, found = zeros(x), []
        for step in x:
            y, state = self.cell(step, state)
            found.append(y)
        return torch.stack(found)


def test_extra_outputs_and_a_state_computed_from_another() -> None:
    model, x = Outputs(), sequence()
    layer = agrees(model, "cell", squares(model, x), lambda out: list(out[1]), ("0", "1"))
    assert layer.hidden_size == 2 * H
    # The loss is read from an output that is no state: its gradient enters through h.
    assert layer.loss_steps == tuple(range(T))
    assert float(layer.lag_profile[0]) == 1.0


def test_lag_profile_is_that_of_a_single_loss_step() -> None:
    model, x = Outputs(), sequence()
    layer = gr.measure(model, squares(model, x), lag_probes=[T - 1]).layers["cell"]
    state, states = zeros(x), []
    for step in x:
        y, state = model.cell(step, state)
        states.append(state)
    loss = y.square().sum() / (2 * T * B)
    found = torch.autograd.grad(loss, [part for pair in states for part in pair])
    norms = torch.stack([torch.cat(found[2 * k : 2 * k + 2], -1).norm() for k in range(T)])
    assert error(layer.lag_profile, norms.flip(0) / norms[-1]) < EXACT


class Masked(nn.Module):
    def __init__(self, how: Callable[[Tensor, int], Tensor], dtype: torch.dtype = F64) -> None:
        super().__init__()
        self.cell, self.how = Tanh().to(dtype), how

    def forward(self, x: Tensor) -> Tensor:
        h, found = x.new_zeros(x.shape[1], H), []
        for place, step in enumerate(x):
            h = self.cell(step, self.how(h, place))
            found.append(h)
        return torch.stack(found)


def done(h: Tensor, place: int) -> Tensor:
    return h * torch.tensor([[1.0], [0.0], [1.0]], dtype=h.dtype) if place == 5 else h


@pytest.mark.parametrize(
    ("how", "steps"),
    [
        (done, (5,)),
        (lambda h, place: nn.functional.layer_norm(h, (H,)), tuple(range(1, T))),
    ],
    ids=["masked", "normalised"],
)
def test_a_state_changed_on_its_way(how: Any, steps: tuple[int, ...]) -> None:
    model, x = Masked(how), sequence()
    layer = agrees(model, "cell", squares(model, x), all_parts)
    assert layer.transformed_steps == steps
    assert len(layer.lag_profile) == 0
    assert any("no lag profile" in note for note in layer.notes)


def test_a_state_detached_every_ten_steps() -> None:
    model = Masked(lambda h, place: h.detach() if place and place % 10 == 0 else h)
    x = sequence(35)
    layer = agrees(model, "cell", squares(model, x), all_parts)
    assert layer.detached_steps == (10, 20, 30)
    assert layer.transformed_steps == ()
    assert len(layer.lag_profile)


class Decoder(nn.Module):
    """Attention over the encoder's states, whose result is fed into the next step's input."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = Tanh(), Tanh(inputs=IN + H)
        self.combine = nn.Linear(2 * H, H, dtype=F64)

    def forward(self, x: Tensor) -> Tensor:
        h, keys = x.new_zeros(x.shape[1], H), []
        for step in x:
            h = self.encoder(step, h)
            keys.append(h)
        memory = torch.stack(keys, 1)  # (B, T, H)
        fed, found = torch.zeros_like(h), []
        for step in x.flip(0):
            h = self.decoder(torch.cat([step, fed], -1), h)
            weights = (memory @ h[:, :, None]).softmax(1)
            fed = self.combine(torch.cat([(weights * memory).sum(1), h], -1)).tanh()
            found.append(fed)
        return torch.stack(found)


def test_a_decoder_with_attention_and_input_feeding() -> None:
    model, x = Decoder(), sequence()
    decoder = agrees(model, "decoder", squares(model, x), all_parts)
    assert any("fed back as an input" in note for note in decoder.notes)
    assert len(decoder.lag_profile)
    encoder = agrees(model, "encoder", squares(model, x), all_parts)
    assert encoder.notes == ()
    assert list(gr.measure(model, squares(model, x)).layers) == ["encoder", "decoder"]


class TwoTimescales(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fast, self.slow = Tanh(inputs=IN + H), Tanh(inputs=H)

    def forward(self, x: Tensor) -> Tensor:
        fast = slow = x.new_zeros(x.shape[1], H)
        for place, step in enumerate(x):
            if place % 4 == 0:
                slow = self.slow(fast, slow)
            fast = self.fast(torch.cat([step, slow], -1), fast)
        return fast


def test_two_timescales() -> None:
    model, x = TwoTimescales(), sequence()
    slow = agrees(model, "slow", squares(model, x), all_parts)
    assert slow.steps == 3
    agrees(model, "fast", squares(model, x), all_parts)


class Carrying(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = Tanh()
        self.state: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[1], H) if self.state is None else self.state
        for step in x:
            h = self.cell(step, h)
        self.state = h.detach()
        return h


def test_a_state_carried_across_batches() -> None:
    model = Carrying()
    model(sequence())
    before = model.state
    copy = before.clone()
    x = sequence()

    def loss() -> Tensor:
        model.state = copy.clone()
        return model(x).square().mean()

    agrees(model, "cell", loss, all_parts)
    gr.measure(model, squares(model, x))
    model.state = before
    layer = gr.measure(model, squares(model, x)).layers["cell"]
    assert model.state is before
    assert torch.equal(before, copy)
    assert layer.detached_steps == ()


class Dropping(nn.Module):
    """Dropout and batch normalisation inside the cell, in train mode."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Tanh()
        self.norm = nn.BatchNorm1d(H, dtype=F64)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return nn.functional.dropout(self.norm(self.inner(x, h)), 0.3, self.training)


def test_dropout_inside_the_cell_and_nothing_changed() -> None:
    model, x = LastOnly(Dropping(), H), sequence()
    torch.manual_seed(7)

    def loss() -> Tensor:
        torch.manual_seed(11)
        return model(x).square().mean()

    agrees(model, "cell", loss, lambda out: [out])


def test_measuring_changes_nothing() -> None:
    model, x = LastOnly(Dropping(), H), sequence()
    model(x).sum().backward()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = [parameter.grad for parameter in model.parameters()]
    copies = [gradient.clone() for gradient in gradients]
    streams = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy())
    attributes = {name: dict(module.__dict__) for name, module in model.named_modules()}
    x_before = x.clone()
    flow = gr.measure(model, squares(model, x))
    assert "cell" in flow.layers
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    for parameter, gradient, copy in zip(model.parameters(), gradients, copies, strict=True):
        assert parameter.grad is gradient
        assert torch.equal(gradient, copy)
        assert parameter.requires_grad
    assert torch.equal(torch.get_rng_state(), streams[0])
    assert random.getstate() == streams[1]
    assert bool((np.random.get_state()[1] == streams[2]).all())
    assert {n: dict(m.__dict__) for n, m in model.named_modules()} == attributes
    assert torch.equal(x, x_before)
    assert not torch.nn.modules.module._global_forward_hooks
    assert not torch.nn.modules.module._global_forward_pre_hooks


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Tanh(), Tanh(inputs=H)
        self.second.recurrent = self.first.recurrent

    def forward(self, x: Tensor) -> Tensor:
        below = above = x.new_zeros(x.shape[1], H)
        for step in x:
            below = self.first(step, below)
            above = self.second(below, above)
        return above


def test_parameters_shared_by_two_cells() -> None:
    model, x = Shared(), sequence()
    flow = gr.measure(model, squares(model, x))
    for name in ("first", "second"):
        layer = agrees(model, name, squares(model, x), all_parts)
        # Checked together: the contributions of both cells add up to torch's gradient.
        assert layer.closure_reference["recurrent.weight"] == "backward"
        assert layer.closure_error["recurrent.weight"] < 1e-12
        assert layer.outside_gradient["recurrent.weight"] == 0.0
    assert len(flow.layers) == 2


def test_a_parameter_also_used_elsewhere_is_told_apart() -> None:
    model, x = Masked(lambda h, place: h), sequence()
    weight = model.cell.recurrent.weight

    def loss() -> Tensor:
        return model(x).square().mean() + weight.square().sum()

    layer = agrees(model, "cell", loss, all_parts)
    assert layer.closure_reference["recurrent.weight"] == "replay"
    assert layer.outside_gradient["recurrent.weight"] > 0.01
    assert layer.closure_error["recurrent.weight"] < 1e-10
    assert layer.closure_reference["input.weight"] == "backward"


def test_frozen_parameters_have_contributions_too() -> None:
    model, x = Masked(lambda h, place: h), sequence().requires_grad_()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    layer = agrees(model, "cell", squares(model, x), all_parts)
    assert set(layer.closure_reference.values()) == {"replay"}
    assert not any(parameter.requires_grad for parameter in model.parameters())


class Checkpointed(LastOnly):
    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[1], self.size)
        for step in x:
            h = checkpoint(self.cell, step, h, use_reentrant=False)
        return h


def test_checkpointed_activations() -> None:
    torch.manual_seed(3)
    cell = Tanh()
    x = sequence()
    model, plain = Checkpointed(cell, H), LastOnly(cell, H)
    layer = gr.measure(model, squares(model, x)).layers["cell"]
    other = gr.measure(plain, squares(plain, x)).layers["cell"]
    assert np.array_equal(layer.state_gradients(), other.state_gradients())
    assert np.abs(other.state_gradients()).max() > 0
    assert layer.closure_error["input.weight"] < 1e-12


# ----------------------------------------------------------------- what is said instead


def test_a_name_of_no_module_is_refused() -> None:
    model, x = LastOnly(Tanh(), H), sequence()
    with pytest.raises(ValueError, match="'cells' names 'encoder.cell', but 'model' has no such"):
        gr.measure(model, squares(model, x), cells=["encoder.cell"])
    with pytest.raises(TypeError, match="write cells="):
        gr.measure(model, squares(model, x), cells="cell")


def test_a_declared_module_that_is_no_cell_is_refused() -> None:
    model, x = Loop(Tanh()), sequence()
    with pytest.raises(NotMeasurableError, match="none of whose outputs entered its next call"):
        gr.measure(model, squares(model, x), cells=["readout"])
    model.unused = Tanh()
    with pytest.raises(NotMeasurableError, match="which 'closure' did not call"):
        gr.measure(model, squares(model, x), cells=["unused"])


class Drifting(Tanh):
    calls = 0

    def forward(self, x: Tensor, state: Any) -> Any:
        Drifting.calls += 1
        return super().forward(x, state) * (1 + Drifting.calls)


class Overwriting(Tanh):
    def forward(self, x: Tensor, state: Any) -> Any:
        return super().forward(x.mul_(1.5), state)


@pytest.mark.parametrize(
    ("cell", "reason"),
    [(Drifting, "bit for bit"), (Overwriting, "changes its input in place")],
)
def test_what_cannot_be_run_again_is_blind(cell: type[Tanh], reason: str) -> None:
    model, x = LastOnly(cell(), H), sequence()
    with pytest.raises(NotMeasurableError, match=reason):
        gr.measure(model, lambda: model(x.clone()).square().mean())


# torch announces the end of torch.jit itself; models of its time are still in use.
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_scripted_cells_are_blind() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(H, H, dtype=F64)

        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return torch.tanh(self.linear(h) + x)

    traced = torch.jit.trace(Plain(), (torch.ones(B, H, dtype=F64), torch.ones(B, H, dtype=F64)))
    model, x = LastOnly(traced, H), sequence(T, H)
    with pytest.raises(NotMeasurableError, match="scripted modules cannot be run again"):
        gr.measure(model, squares(model, x), cells=["cell"])
    with pytest.raises(NotMeasurableError, match="scripted modules cannot be run again"):
        gr.measure(model, squares(model, x))


# The compiler warns of hooks on all modules, and of its own reads of .grad, which it cannot
# survive as errors.
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_compiled_cells_are_blind() -> None:
    model, x = LastOnly(torch.compile(Tanh(), backend="eager"), H), sequence()
    with pytest.raises(NotMeasurableError, match="compiled with torch.compile"):
        gr.measure(model, squares(model, x))


def test_a_stateless_module_called_often_is_no_cell() -> None:
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = Tanh()

        def forward(self, x: Tensor) -> Tensor:
            start = x.new_zeros(x.shape[1], H)
            return torch.stack([self.block(step, start) for step in x])

    model, x = Deep(), sequence()
    with pytest.raises(NotMeasurableError, match="no recurrent layer"):
        gr.measure(model, squares(model, x))


def test_the_outermost_module_called_as_often_is_the_cell() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Tanh()

        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return self.inner(x, h) + 0.1 * h

    model, x = LastOnly(Outer(), H), sequence()
    layer = agrees(model, "cell", squares(model, x), all_parts)
    assert list(gr.measure(model, squares(model, x)).layers) == ["cell"]
    assert "inner.recurrent.weight" in layer.contributions


def test_the_record_survives_plain_data_and_the_table() -> None:
    model, x = Outputs(), sequence()
    flow = gr.measure(model, squares(model, x))
    again = gr.GradientFlow.from_dict(flow.to_dict())
    assert np.array_equal(again.layers["cell"].lag_profile, flow.layers["cell"].lag_profile)
    assert "Gated 10" in str(flow)
    with pytest.raises(ValueError, match="must be one of"):
        flow.layers["cell"].state_gradients("h")
    gr.diagnose(flow, needs_lag=4)
