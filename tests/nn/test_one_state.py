"""An LSTM with one state computes what torch's does, and its state never loses the cell unseen."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.testing import assert_close

import gradreach as gr
from gradreach.nn import OneStateLSTM, OneStateLSTMCell, StateWithCell


def twins(**options: object) -> tuple[OneStateLSTM, nn.LSTM]:
    ours, torchs = OneStateLSTM(3, 5, **options), nn.LSTM(3, 5, **options)
    torchs.load_state_dict(ours.state_dict())
    return ours, torchs


def state(shape: tuple[int, ...] = (2, 4, 3)) -> StateWithCell:
    return StateWithCell.of(torch.randn(shape), torch.randn(shape))


@pytest.mark.parametrize(
    "options",
    [{}, {"num_layers": 2}, {"bidirectional": True}, {"bias": False}, {"dtype": torch.float64}],
    ids=str,
)
def test_windows_of_a_carried_and_detached_state_are_those_of_torch(
    options: dict[str, object],
) -> None:
    ours, torchs = twins(**options)
    windows = torch.randn(3, 6, 4, 3, dtype=options.get("dtype", torch.float32))
    h, pair = None, None

    for window in windows:
        output, h = ours(window, h)
        expected, pair = torchs(window, pair)
        (output**2).mean().backward()
        (expected**2).mean().backward()
        h, pair = h.detach(), tuple(part.detach() for part in pair)

        assert_close(output, expected)
        assert_close(h.as_subclass(Tensor), pair[0])
        assert_close(h.cell, pair[1])
    for own, other in zip(ours.parameters(), torchs.parameters(), strict=True):
        assert_close(own.grad, other.grad)


def test_state_on_the_graph_carries_the_gradient_of_the_cell() -> None:
    ours, torchs = twins()
    first, second = torch.randn(2, 5, 4, 3)

    ours(second, ours(first)[1])[0].sum().backward()
    torchs(second, torchs(first)[1])[0].sum().backward()

    assert_close(ours.weight_hh_l0.grad, torchs.weight_hh_l0.grad)


def test_loop_over_a_cell_is_that_of_torch() -> None:
    ours, torchs = OneStateLSTMCell(3, 5), nn.LSTMCell(3, 5)
    torchs.load_state_dict(ours.state_dict())
    h, pair = torch.zeros(4, 5), (torch.zeros(4, 5), torch.zeros(4, 5))

    for step in torch.randn(7, 4, 3):
        h, pair = ours(step, h), torchs(step, pair)

    assert_close(h.as_subclass(Tensor), pair[0])
    assert_close(h.cell, pair[1])


def test_packed_and_single_sequences_are_those_of_torch() -> None:
    ours, torchs = twins(batch_first=True)
    packed = pack_padded_sequence(
        torch.randn(3, 6, 3), torch.tensor([2, 6, 4]), batch_first=True, enforce_sorted=False
    )

    assert_close(ours(packed)[0].data, torchs(packed)[0].data)
    assert_close(ours(packed, ours(packed)[1])[1].cell, torchs(packed, torchs(packed)[1])[1][1])
    assert_close(ours(packed.data)[0], torchs(packed.data)[0])


KEPT: dict[str, Callable[[Tensor], Tensor]] = {
    "detach": lambda h: h.detach(),
    "data": lambda h: h.data,
    "clone": lambda h: h.clone(),
    "contiguous": lambda h: h.transpose(0, 1).contiguous(),
    "to": lambda h: h.to(torch.float64),
    "double": lambda h: h.double(),
    "slice": lambda h: h[:, 1:3],
    "narrow": lambda h: h.narrow(1, 0, 2),
    "chosen rows": lambda h: h[:, torch.tensor([2, 0])],
    "index_select": lambda h: h.index_select(1, torch.tensor([3, 1])),
    "torch.index_select": lambda h: torch.index_select(h, 1, torch.tensor([3, 1])),
    "repeat": lambda h: h.repeat(1, 2, 1),
    "chunk": lambda h: h.chunk(2, dim=1)[1],
    "cat": lambda h: torch.cat([h, h], dim=1),
    "squeeze": lambda h: h[:1].squeeze(0),
    "mask": lambda h: h * torch.tensor([1.0, 0.0, 1.0, 0.0]).view(1, 4, 1),
    "mask first": lambda h: torch.tensor([1.0, 0.0, 1.0, 0.0])[:, None] * h,
    "expanded mask": lambda h: h * torch.tensor([1.0, 0.0, 1.0, 0.0])[:, None].expand(4, 3),
    "number": lambda h: 0.5 * h,
    "two masks": lambda h: 0.25 * h + 0.75 * h.flip(1),
    "where": lambda h: torch.where(torch.tensor([[True], [False]] * 2), h, h.flip(1)),
    "where zeros": lambda h: torch.where(torch.ones(4, 1).bool(), h, torch.zeros(())),
    "masked_fill": lambda h: h.masked_fill(torch.tensor([[True], [False]] * 2), 0.0),
    "deepcopy": lambda h: copy.deepcopy(h),
}


@pytest.mark.parametrize("move", KEPT)
def test_what_moves_a_state_moves_its_cell_alike(move: str) -> None:
    h = state()
    hidden, cell = h.as_subclass(Tensor).clone(), h.cell.clone()

    moved = KEPT[move](h)

    assert isinstance(moved, StateWithCell)
    assert torch.equal(moved.as_subclass(Tensor), KEPT[move](hidden))
    assert torch.equal(moved.cell, KEPT[move](cell))


@pytest.mark.parametrize("place", [0, 2])
def test_writing_zeros_into_a_state_empties_the_cell(place: int) -> None:
    h = state()

    h[:, place] = 0
    h.mul_(torch.tensor([1.0, 1.0, 1.0, 0.0])[:, None])

    assert not h.cell[:, [place, 3]].any()
    assert h.cell[:, 1].all()


DROPPED: dict[str, Callable[[Tensor], Tensor]] = {
    "activation": torch.tanh,
    "linear": lambda h: nn.functional.linear(h, torch.ones(2, 3)),
    "stack": lambda h: torch.stack([h, h]),
    "features": lambda h: torch.cat([h[0], h[1]], dim=1),
    "a factor for each unit": lambda h: h * torch.ones(3),
    "noise": lambda h: h + torch.randn(3),
    "another tensor": lambda h: torch.where(torch.ones(4, 1).bool(), h, torch.ones(())),
    "dropout": lambda h: nn.functional.dropout(h, 0.5),
}


@pytest.mark.parametrize("use", DROPPED)
def test_what_computes_with_a_state_sees_a_plain_tensor(use: str) -> None:
    assert type(DROPPED[use](state())) is Tensor


def test_state_that_lost_its_cell_is_refused() -> None:
    layer = OneStateLSTM(3, 5)
    _, h = layer(torch.randn(6, 4, 3))

    with pytest.raises(ValueError, match="argument 'hx' was computed from a state of this layer"):
        layer(torch.randn(6, 4, 3), torch.tanh(h))
    with pytest.raises(ValueError, match="'hx' is neither zero nor learned, and has no cell state"):
        layer(torch.randn(6, 4, 3), torch.tanh(h).detach())
    with pytest.raises(TypeError, match="argument 'hx' must be one state tensor, got a tuple of 2"):
        layer(torch.randn(6, 4, 3), (h, h))


@pytest.mark.parametrize("start", ["learned", "computed", "zeros", "none"])
def test_initial_state_of_the_users_own_has_an_empty_cell(start: str) -> None:
    ours, torchs = twins()
    computed = nn.Linear(2, 5)(torch.ones(1, 4, 2))
    given = {
        "learned": nn.Parameter(torch.randn(1, 1, 5)).expand(1, 4, 5),
        "computed": computed, "zeros": torch.zeros(1, 4, 5), "none": None,
    }[start]  # fmt: skip
    x = torch.randn(6, 4, 3)

    output, _ = ours(x, given)

    h = torch.zeros(1, 4, 5) if given is None else given
    assert_close(output, torchs(x, (h, torch.zeros(1, 4, 5)))[0])
    if given is not None:
        with torch.no_grad():  # where nothing tells it from a state that has lost its cell
            ours(x, given.detach())


def test_state_and_layer_can_be_saved_copied_and_loaded() -> None:
    layer = OneStateLSTM(3, 5)
    x = torch.randn(6, 4, 3)
    _, h = layer(x)
    stream = io.BytesIO()
    torch.save({"h": h, "weights": layer.state_dict()}, stream)
    stream.seek(0)

    loaded = torch.load(stream, weights_only=False)
    twin = copy.deepcopy(layer)
    twin.load_state_dict(loaded["weights"])

    assert torch.equal(twin(x, loaded["h"])[0], layer(x, h)[0])
    assert nn.LSTM(3, 5).load_state_dict(layer.state_dict())


@pytest.mark.parametrize("carried", [False, True])
def test_gradient_flow_is_that_of_torchs_lstm(carried: bool) -> None:
    ours, torchs = twins()
    x, readout = torch.randn(12, 4, 3), nn.Linear(5, 1)

    def loss_of(layer: nn.Module) -> Callable[[], Tensor]:
        def loss() -> Tensor:
            state, last = None, None
            for window in x.split(6 if carried else 12):
                last, state = layer(window, state)
            assert last is not None
            return readout(last[-1]).pow(2).mean()

        return loss

    model, twin = nn.ModuleDict({"rnn": ours}), nn.ModuleDict({"rnn": torchs})
    layer = gr.measure(model, loss_of(ours)).layers["rnn"]
    expected = gr.measure(twin, loss_of(torchs)).layers["rnn"]

    assert layer.kind == "lstm"
    assert layer.steps == 12
    assert_close(
        torch.tensor(layer.state_gradient_norms), torch.tensor(expected.state_gradient_norms),
        rtol=1e-4, atol=0,
    )  # fmt: skip
