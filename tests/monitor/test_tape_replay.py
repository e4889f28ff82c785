"""A recorded pass runs again to the last bit, with any weights, and touches nothing."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

import gradreach as gr
from gradreach.monitor.guard import Guard
from gradreach.monitor.tape import Tape
from gradreach.monitor.tape_replay import BranchChangedError, replayed_gradients, replayed_loss
from gradreach.monitor.tape_values import NotReplayableError

T, B, INPUT, H = 7, 3, 4, 8
Loss = Callable[[nn.Module, Tensor], Tensor]


class Read(nn.Module):
    """A layer, and a readout of each step."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.out = layer, nn.Linear(H, 2)

    def forward(self, x: Tensor) -> Any:
        return self.out(self.layer(x)[0])


class Normed(nn.Module):
    """Running statistics, which a pass writes into."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.drop = nn.Linear(INPUT, H), nn.BatchNorm1d(H), nn.Dropout(0.4)
        self.act, self.out = nn.ReLU(inplace=True), nn.Linear(H, 1)

    def forward(self, x: Tensor) -> Any:
        return self.out(self.drop(self.act(self.norm(self.first(x.flatten(0, 1))))))


class Loop(nn.Module):
    """A loop over a cell that writes into a buffer made outside of torch's sight, and renorms."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(6, INPUT, max_norm=1.0)
        self.cell, self.out = nn.LSTMCell(INPUT, H), nn.Linear(H, 2)
        self.register_buffer("kept", torch.zeros(T, B, H))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Any:
        state = None
        self.kept = self.kept.detach()
        words = (x[..., 0].abs() * 2).long().clamp(max=5)
        for t in range(T):
            state = self.cell(self.table(words[t]), state)
            self.kept[t] = state[0]
        self.seen += self.kept.detach().mean()
        self.kept *= 0.5
        return self.out(self.kept)


class Packed(nn.Module):
    """Rows of different length."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.GRU(INPUT, H, num_layers=2, dropout=0.5, bidirectional=True)

    def forward(self, x: Tensor) -> Any:
        packed = pack_padded_sequence(x, torch.tensor([T, 5, 2]))
        return pad_packed_sequence(self.layer(packed)[0])[0]


class Twice(torch.autograd.Function):
    """A function of a user's own, whose forward calls torch."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return 2 * x.tanh()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grads[0] * 2 * (1 - x.tanh() ** 2)


class Custom(nn.Module):
    """Custom functions, checkpointing, a gradient within the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(INPUT, H), nn.Linear(H, 1)

    def forward(self, x: Tensor) -> Any:
        h = Twice.apply(self.first(x))
        h = checkpoint(lambda part: self.second(part.sin()), h, use_reentrant=False)
        x = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(self.first(x).square().sum(), x, create_graph=True)
        return h + slope.square().mean()


MODELS: dict[str, Callable[[], nn.Module]] = {
    "rnn": lambda: Read(nn.RNN(INPUT, H, nonlinearity="relu")),
    "lstm": lambda: Read(nn.LSTM(INPUT, H, num_layers=2, dropout=0.3)),
    "gru": lambda: Read(nn.GRU(INPUT, H, batch_first=True)),
    "projected": lambda: Read(nn.LSTM(INPUT, 16, proj_size=H)),
    "norm": Normed,
    "loop": Loop,
    "packed": Packed,
    "custom": Custom,
    "spectral": lambda: nn.Sequential(
        parametrizations.spectral_norm(nn.Linear(INPUT, H)), nn.Tanh()
    ),
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(INPUT, H)),
    "attention": lambda: nn.TransformerEncoderLayer(INPUT, 2, 8),
    "gr.rnn": lambda: Read(gr.nn.RNN(INPUT, H, init="identity", residual=True, skip=3)),
    "gr.lstm": lambda: Read(gr.nn.LSTM(INPUT, H, forget_bias="chrono", max_lag=20)),
    "gr.gru": lambda: Read(gr.nn.GRU(INPUT, H, num_layers=2, dropout=0.2)),
    "gr.zoneout": lambda: Read(gr.nn.LSTM(INPUT, H, zoneout=0.3)),
}


def squares(model: nn.Module, x: Tensor) -> Tensor:
    loss: Tensor = model(x).square().mean()
    return loss


def with_draws(model: nn.Module, x: Tensor) -> Tensor:
    """Return a loss with random numbers of the user's own, before and after the model."""
    out = model(x + 0.1 * torch.randn_like(x))
    mask = torch.empty(()).bernoulli_(0.9)
    loss: Tensor = (mask * out - torch.rand(out.shape[-1], dtype=x.dtype)).abs().mean()
    return loss


def under_autocast(model: nn.Module, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        out = model(x)
    loss: Tensor = out.float().square().mean()
    return loss


LOSSES: dict[str, Loss] = {"squares": squares, "draws": with_draws, "autocast": under_autocast}
# torch's own limits, not ours
REFUSED = {("projected", "autocast"), ("attention", "autocast")}


def recorded(model: nn.Module, x: Tensor, loss: Loss) -> tuple[Tape, Tensor]:
    guard = Guard(on_fault=lambda: None)
    tape = Tape(guard)
    tape.begin()
    value = loss(model, x)
    tape.end([value])
    assert guard.fault is None
    assert tape.reason == ""
    return tape, value


def state(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Return all that a replay could have touched."""
    own = [*model.state_dict().values(), x, torch.get_rng_state()]
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    return [part.detach().clone() for part in (*own, *grads)]


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fp32", "fp64"])
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
@pytest.mark.parametrize("kind", MODELS)
def test_same_weights_give_the_same_loss_and_others_what_the_model_gives(
    kind: str, loss: Loss, dtype: torch.dtype
) -> None:
    if (kind, loss.__name__.removeprefix("under_")) in REFUSED:
        return
    model = MODELS[kind]().to(dtype)
    x = torch.randn(T, B, INPUT, dtype=dtype)
    twin, streams = copy.deepcopy(model), torch.get_rng_state()

    tape, value = recorded(model, x, loss)
    value.backward()
    before = state(model, x)
    again = replayed_loss(tape, {id(p): p.detach().clone() for p in model.parameters()})
    moved = {p: p.detach() + 0.01 * torch.randn_like(p) for p in model.parameters()}
    before[len(model.state_dict()) + 1] = torch.get_rng_state()
    other = replayed_loss(tape, {id(p): w.clone() for p, w in moved.items()})

    assert torch.equal(value.detach(), again)
    assert all(torch.equal(a, b) for a, b in zip(before, state(model, x), strict=True))
    with torch.no_grad():
        for own, weight in zip(twin.parameters(), moved.values(), strict=True):
            own.copy_(weight)
    torch.set_rng_state(streams)
    assert torch.equal(loss(twin, x).detach(), other)


@pytest.mark.parametrize("loss", [squares, with_draws])
@pytest.mark.parametrize("kind", [kind for kind in MODELS if kind != "custom"])
@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
def test_gradient_of_the_second_run_is_that_of_the_first_to_the_bit(kind: str, loss: Loss) -> None:
    model = MODELS[kind]()
    x = torch.randn(T, B, INPUT)

    tape, value = recorded(model, x, loss)
    value.backward()
    before = state(model, x)
    _, gradients = replayed_gradients(tape, {id(p): p.detach().clone() for p in model.parameters()})

    for parameter in model.parameters():
        found = gradients.get(id(parameter))
        assert (found is None) == (parameter.grad is None)
        assert found is None or torch.equal(found, parameter.grad)
    assert all(torch.equal(a, b) for a, b in zip(before, state(model, x), strict=True))


def test_branch_that_would_go_another_way_is_told() -> None:
    model = nn.Linear(2, 1)
    nn.init.ones_(model.weight)
    nn.init.zeros_(model.bias)

    def loss(model: nn.Module, x: Tensor) -> Tensor:
        out = model(x).sum()
        return out if out > 3 else -out

    tape, _ = recorded(model, torch.ones(2, 2), loss)

    same = replayed_loss(tape, {id(model.weight): torch.full((1, 2), 0.9)})
    assert same.item() == pytest.approx(3.6)
    with pytest.raises(BranchChangedError):
        replayed_loss(tape, {id(model.weight): torch.full((1, 2), 0.5)})


def test_weight_moved_without_being_replaced_is_told() -> None:
    model = nn.Linear(2, 1)
    tape, _ = recorded(model, torch.ones(2, 2), squares)

    with torch.no_grad():
        model.bias.add_(1)

    with pytest.raises(NotReplayableError, match="has changed since"):
        replayed_loss(tape, {id(model.weight): torch.zeros(1, 2)})
    replayed_loss(tape, {id(p): p.detach().clone() for p in model.parameters()})


def test_replay_leaves_modes_and_autocast_as_they_are() -> None:
    model = nn.Linear(INPUT, 2)
    tape, value = recorded(model, torch.randn(T, B, INPUT), under_autocast)

    with torch.no_grad(), torch.autocast("cpu", torch.float16):
        torch.set_default_dtype(torch.float64)
        try:
            again = replayed_loss(tape, {})
            assert torch.get_default_dtype() is torch.float64
        finally:
            torch.set_default_dtype(torch.float32)
        assert not torch.is_grad_enabled()
        assert torch.get_autocast_dtype("cpu") is torch.float16
        assert torch.is_autocast_cache_enabled()

    assert torch.equal(value.detach(), again)
    assert not torch.is_autocast_enabled("cpu")


def test_replay_under_a_mode_of_somebody_else_is_refused() -> None:
    class Theirs(TorchFunctionMode):
        pass

    tape, _ = recorded(nn.Linear(INPUT, 2), torch.randn(T, B, INPUT), squares)

    with Theirs(), pytest.raises(NotReplayableError, match="somebody else's"):
        replayed_loss(tape, {})


def test_hooks_of_the_user_s_tensors_do_not_fire_again() -> None:
    model, seen = nn.Linear(INPUT, 2), []

    def loss(model: nn.Module, x: Tensor) -> Tensor:
        out = model(x)
        out.register_hook(seen.append)
        out.retain_grad()
        return out.sum()

    tape, value = recorded(model, torch.randn(T, B, INPUT), loss)
    value.backward()
    replayed_loss(tape, {})

    assert len(seen) == 1


def test_what_the_pass_warned_of_is_not_said_again() -> None:
    model = nn.Linear(INPUT, 2)
    x = torch.randn(T, B, INPUT)

    def loss(model: nn.Module, x: Tensor) -> Tensor:
        return F.mse_loss(model(x), torch.zeros(1))  # warns of the target's size

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        tape, _ = recorded(model, x, loss)
        replayed_loss(tape, {})

    assert len(told) == 1
