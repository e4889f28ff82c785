"""Whatever is not finite is stopped before the weights, and located."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.optim.optimizer import register_optimizer_step_post_hook

from gradreach.monitor.guard import Guard
from gradreach.monitor.kept_passes import KeptPasses
from gradreach.monitor.nonfinite_place import NonFinitePlace, all_finite
from gradreach.monitor.step_guard import StepGuard

T, B, SIZE, H = 9, 4, 3, 5
BAD = {"nan": torch.nan, "inf": torch.inf, "-inf": -torch.inf}


@contextmanager
def guarding(model: nn.Module) -> Iterator[list[NonFinitePlace]]:
    places: list[NonFinitePlace] = []
    guard = Guard(on_fault=lambda: None)
    kept = KeptPasses(model, guard)
    steps = StepGuard(
        model, guard, found=kept.found, on_block=lambda _, place: places.append(place)
    )
    kept.start()
    steps.start()
    handle = register_optimizer_step_post_hook(lambda *_: kept.stepped())
    try:
        yield places
    finally:
        steps.stop()
        kept.stop()
        handle.remove()
    assert guard.fault is None, guard.fault


@dataclass
class Poison:
    """Where a value that is not finite is put, and when."""

    where: str
    step: int
    row: int
    value: float
    armed: bool = field(default=False)

    def put(self, values: Tensor, step: int | None = None) -> Tensor:
        """Return a copy with the value at the place; ``step`` where only one step is given."""
        if not self.armed or (step is not None and step != self.step):
            return values
        changed = values.clone()
        # All units of a gradient: one alone may be cut off by a ReLU, and reach no weight.
        entries = slice(None) if self.where == "hook" else -1
        (changed if step is not None else changed[self.step])[self.row, entries] = self.value
        return changed


class Fused(nn.Module):
    """Layers of torch under a readout."""

    def __init__(self, kind: Any, **options: Any) -> None:
        super().__init__()
        self.below, self.rnn = nn.Linear(SIZE, SIZE), kind(SIZE, H, **options)
        self.out = nn.Linear(H, 1)

    def forward(self, x: Tensor, poison: Poison) -> Any:
        x = self.below(x)
        if poison.where == "input":
            x = poison.put(x)
        entering = torch.zeros(self.rnn.num_layers, B, H)
        if poison.where == "state" and poison.armed:
            entering[0, poison.row, 0] = poison.value
        state = (entering, torch.zeros_like(entering)) if self.rnn.mode == "LSTM" else entering
        hidden, _ = self.rnn(x, state)
        if poison.where == "hook" and hidden.requires_grad:
            hidden.register_hook(poison.put)
        return self.out(hidden)


class Cells(nn.Module):
    """A loop over a cell."""

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.below, self.rnn, self.out = nn.Linear(SIZE, SIZE), kind(SIZE, H), nn.Linear(H, 1)

    def forward(self, x: Tensor, poison: Poison) -> Any:
        x = self.below(x)
        if poison.where == "input":
            x = poison.put(x)
        first = torch.zeros(B, H)
        state: Any = (first, first) if isinstance(self.rnn, nn.LSTMCell) else first
        outputs = []
        for t in range(T):
            if poison.where == "state":
                state = (poison.put(state[0], t), state[1]) if type(state) is tuple \
                    else poison.put(state, t)  # fmt: skip
            state = self.rnn(x[t], state)
            hidden = state[0] if type(state) is tuple else state
            if poison.where == "hook":
                hidden.register_hook(lambda gradient, t=t: poison.put(gradient, t))
            outputs.append(hidden)
        return self.out(torch.stack(outputs))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "rnn": lambda: Fused(nn.RNN),
    "relu": lambda: Fused(nn.RNN, nonlinearity="relu"),
    "gru": lambda: Fused(nn.GRU),
    "lstm": lambda: Fused(nn.LSTM),
    "deep lstm": lambda: Fused(nn.LSTM, num_layers=2, dropout=0.2),
    "rnn cell": lambda: Cells(nn.RNNCell),
    "gru cell": lambda: Cells(nn.GRUCell),
    "lstm cell": lambda: Cells(nn.LSTMCell),
}
WHERE = ("input", "state", "weight", "readout", "loss", "hook", "weight hook")


def train(model: nn.Module, poison: Poison) -> tuple[list[Tensor], list[Tensor]]:
    """Make two sound steps and a poisoned one; return what there was before that and after."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    def left() -> list[Tensor]:
        moments = [part for own in optimizer.state.values() for part in own.values()]
        return [part.detach().clone() for part in (*model.parameters(), *moments)]

    for number in range(3):
        poison.armed = number == 2
        weight = {"weight": "rnn.weight_hh", "readout": "out.weight"}.get(poison.where, "")
        poisoned = next((p for n, p in model.named_parameters() if weight and n.startswith(weight)),
                        None)  # fmt: skip
        if poison.armed and poisoned is not None:
            with torch.no_grad():
                poisoned[0, 0] = poison.value
        optimizer.zero_grad()
        hook = None
        if poison.armed and poison.where == "weight hook":
            last = next(p for n, p in model.named_parameters() if n.startswith("rnn.weight_hh"))
            hook = last.register_hook(lambda gradient: gradient * torch.nan)
        each = model(torch.randn(T, B, SIZE), poison).square()
        if poison.where == "loss":
            each = each * poison.put(torch.ones(T, B, 1))
        each.mean().backward()
        before = left()
        optimizer.step()
        if hook is not None:
            hook.remove()
    return before, left()


def expected(model: nn.Module, poison: Poison) -> tuple[str, str, str, int, int]:
    """Return parameter, where, layer, step and row as the place should have them."""
    cells = isinstance(model, Cells)
    suffix = "" if cells else "_l0"
    layer = "rnn" if cells else "rnn.l0"
    top = layer if cells else f"rnn.l{model.rnn.num_layers - 1}"
    own = f"rnn.weight_ih{suffix}"
    weight = f"rnn.weight_hh{suffix}"
    if poison.where == "weight":
        return weight, f"weight {weight}", "", -1, -1
    if poison.where == "readout":
        return "out.weight", "weight out.weight", "", -1, -1
    if poison.where == "weight hook":
        return weight, "parameter", "", -1, -1
    if poison.where == "input":
        return own, "input", layer, poison.step, poison.row
    if poison.where == "state":
        # tanh makes 1 of infinity, with a slope of 0: only W_hh meets the infinity itself.
        kept = isinstance(model.rnn, nn.GRU | nn.GRUCell) or "relu" in vars(model.rnn).values()
        met = own if kept or poison.value != poison.value else weight
        return met, "state", layer, poison.step if cells else 0, poison.row
    return own, "gradient", top, poison.step, poison.row


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("kind", MODELS)
def test_poisoned_step_is_blocked_and_its_source_named(kind: str, where: str, value: str) -> None:
    draw = random.Random(f"{kind} {where} {value}")
    poison = Poison(where, draw.randrange(T), draw.randrange(B), BAD[value])
    model = MODELS[kind]()

    with guarding(model) as places:
        before, after = train(model, poison)

    assert all(torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0))
               for a, b in zip(before, after, strict=True))  # fmt: skip
    (place,) = places
    found = (place.parameter, place.where, place.layer, place.step, place.row)
    assert found == expected(model, poison)


def test_backward_that_overflows_is_located_where_torch_s_own_does() -> None:
    rnn = nn.RNN(1, H, nonlinearity="relu")
    with torch.no_grad():
        rnn.weight_hh_l0.copy_(1.5 * torch.eye(H))
        rnn.weight_ih_l0.zero_()
        rnn.bias_hh_l0.fill_(1e-30)
        rnn.bias_ih_l0.zero_()
    optimizer = torch.optim.SGD(rnn.parameters(), lr=0.1)
    steps, first = 60, {}
    h = torch.zeros(2, H)
    loop = []
    for t in range(steps):
        h = torch.relu(h @ rnn.weight_hh_l0.T + rnn.bias_hh_l0)
        h.register_hook(lambda g, t=t: first.update({t: bool(g.isfinite().all())}))
        loop.append(h)
    ((loop[-1] * 1e36 * torch.tensor([[1.0], [0.0]])).sum()).backward()
    oracle = max(t for t, finite in first.items() if not finite)
    optimizer.zero_grad()

    with guarding(rnn) as places:
        out = rnn(torch.zeros(steps, 2, 1))[0]
        (out[-1] * 1e36 * torch.tensor([[1.0], [0.0]])).sum().backward()
        optimizer.step()

    assert (places[0].where, places[0].step, places[0].row) == ("gradient", oracle, 0)
    assert 0 < oracle < steps - 1


def test_layer_between_two_others_is_named_when_its_input_is_the_first() -> None:
    model = nn.ModuleDict({"low": nn.GRU(SIZE, SIZE), "high": nn.LSTM(SIZE, H)})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    with guarding(model) as places:
        between = model["low"](torch.randn(T, B, SIZE))[0]
        between = between.index_put((torch.tensor(4), torch.tensor(2)), torch.tensor(torch.inf))
        model["high"](between)[0].sum().backward()
        optimizer.step()

    assert str(places[0]).startswith(
        "first NaN or infinity in the input of step 4, batch row 2, of layer high.l0"
    )
    assert places[0].parameter == "high.weight_ih_l0"


def test_second_pass_of_an_accumulated_step_is_searched_too() -> None:
    model = nn.GRU(SIZE, H)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    with guarding(model) as places:
        for number in range(3):
            x = torch.randn(T, B, SIZE)
            if number == 1:
                x[6, 3] = torch.nan
            model(x)[0].sum().backward()
        optimizer.step()

    assert (places[0].layer, places[0].step, places[0].row) == ("gru#2.l0", 6, 3)


def test_packed_batch_first_and_reverse_rows_are_the_user_s() -> None:
    model = nn.GRU(SIZE, H, batch_first=True, bidirectional=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(B, T, SIZE)
    x[2, 4, 0] = torch.nan
    lengths = torch.tensor([9, 7, 6, 2])

    with guarding(model) as places:
        packed = pack_padded_sequence(x, lengths, batch_first=True)
        pad_packed_sequence(model(packed)[0])[0].sum().backward()
        optimizer.step()

    assert (places[0].layer, places[0].where) == ("gru.l0", "input")
    assert (places[0].step, places[0].row) == (4, 2)


def test_state_carried_over_steps_is_followed_for_one_step_only() -> None:
    model = nn.GRU(SIZE, H)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    state = None

    with guarding(model) as places:
        for number in range(4):
            optimizer.zero_grad()
            x = torch.randn(T, B, SIZE)
            if number == 3:
                x[1, 0, 0] = torch.nan
            out, state = model(x, state)
            state = state.detach()
            out.sum().backward()
            optimizer.step()

    assert (places[0].step, places[0].row) == (1, 0)  # of its own window


def test_encoder_and_decoder_of_one_pass_are_both_looked_at() -> None:
    encoder, decoder = nn.GRU(SIZE, H), nn.Linear(H, 1)
    model = nn.ModuleList([encoder, decoder])
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.1) for part in model]
    x = torch.randn(T, B, SIZE)
    x[5, 1, 2] = torch.nan

    with guarding(model) as places:
        decoder(encoder(x)[0]).sum().backward()
        for optimizer in optimizers:
            optimizer.step()

    assert [(place.step, place.row) for place in places] == [(5, 1), (5, 1)]
    assert [place.parameter for place in places] == ["0.weight_ih_l0", "1.weight"]


def test_network_without_recurrence_is_blocked_and_its_parameter_named() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    with guarding(model) as places:
        (model(torch.ones(1, 2)) * torch.nan).sum().backward()
        optimizer.step()

    assert str(places[0]) == "NaN or infinity in the gradient of 0.weight and 3 more only"


def test_sums_that_overflow_are_told_from_infinities() -> None:
    huge = torch.full((4,), 3e38)

    assert all_finite([huge, torch.zeros(0), torch.ones(2, dtype=torch.complex64)])
    assert not all_finite([huge, torch.tensor([1.0, -torch.inf])])
    assert not all_finite([torch.tensor([torch.inf, -torch.inf])])
    assert not all_finite(
        [torch.sparse_coo_tensor([[1]], [torch.nan], (3,), check_invariants=True)]
    )
