"""One layer in one direction: the equations, the lags, and rows of different lengths."""

from __future__ import annotations

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

from gradreach.kernels.activations import Activation
from gradreach.kernels.recurrence import GATES, CellWeights, Recurrence, run

T, B, IN, H = 6, 4, 3, 5
LENGTHS = [6, 4, 4, 1]
KINDS = ["rnn", "gru", "lstm"]


def weights_of(kind: str, skips: int = 0, **more: torch.Tensor) -> CellWeights:
    rows = GATES[kind] * H

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64) / 2

    carries = drawn(skips, H) if skips else None
    return CellWeights(
        drawn(rows, IN), drawn(rows, H), drawn(rows), drawn(rows), carries=carries, **more
    )


def state_of(kind: str) -> tuple[torch.Tensor, torch.Tensor | None]:
    hidden = torch.randn(B, H, dtype=torch.float64)
    return hidden, torch.randn(B, H, dtype=torch.float64) if kind == "lstm" else None


def row_by_row(cell, inputs, hidden, memory, weights, lengths, reverse):
    """Run each row alone, by hand: one step of the plain cell, then the definition of h_t."""
    plain = Recurrence(cell.kind, cell.activation)
    outputs = torch.zeros(T, B, H, dtype=torch.float64)
    ends = []
    for row, length in enumerate(lengths):
        states = [hidden[row : row + 1]]
        c = None if memory is None else memory[row : row + 1]
        times = list(range(length))
        for time in reversed(times) if reverse else times:
            bare = weights._replace(scale=None, carries=None)
            x = inputs[time : time + 1, row : row + 1]
            _, u, c = run(plain, x, states[-1], c, bare)
            h = u if weights.scale is None else weights.scale * u
            for place, lag in enumerate(cell.skips):
                if len(states) - lag >= 0:
                    h = h + weights.carries[place] * states[len(states) - lag]
            states.append(h)
            outputs[time, row] = h
        ends.append((states[-1], c))
    h_n = torch.cat([h for h, _ in ends])
    return outputs, h_n, None if memory is None else torch.cat([c for _, c in ends])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("skips", [(), (1,), (2, 5), (1, 3, 9)])
@pytest.mark.parametrize("kind", KINDS)
def test_ragged_batch_equals_its_rows_run_alone(kind, skips, reverse):
    scale = torch.rand(H, dtype=torch.float64)
    cell, weights = Recurrence(kind, skips=skips), weights_of(kind, len(skips), scale=scale)
    inputs = torch.randn(T, B, IN, dtype=torch.float64)
    hidden, memory = state_of(kind)
    packed = pack_padded_sequence(inputs, LENGTHS)

    output, h_n, c_n = run(cell, packed.data, hidden, memory, weights, packed.batch_sizes, reverse)

    wanted, wanted_h, wanted_c = row_by_row(cell, inputs, hidden, memory, weights, LENGTHS, reverse)
    close = {"rtol": 0, "atol": 1e-12}  # a few dozen roundings of numbers of size 1
    torch.testing.assert_close(output, pack_padded_sequence(wanted, LENGTHS).data, **close)
    torch.testing.assert_close(h_n, wanted_h, **close)
    if kind == "lstm":
        torch.testing.assert_close(c_n, wanted_c, **close)
    else:
        assert c_n is None


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_packed_rows_of_one_length_equal_a_tensor_of_any_strides(kind, reverse):
    cell, weights = Recurrence(kind, skips=(1, 2)), weights_of(kind, 2)
    inputs = torch.randn(B, IN, T, dtype=torch.float64).permute(2, 0, 1)
    hidden, memory = state_of(kind)

    of_tensor = run(cell, inputs, hidden, memory, weights, None, reverse)
    sizes = torch.full((T,), B)
    of_rows = run(cell, inputs.reshape(T * B, IN), hidden, memory, weights, sizes, reverse)

    torch.testing.assert_close(of_tensor[0].flatten(0, 1), of_rows[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(of_tensor[1:], of_rows[1:], rtol=0, atol=1e-12)


def test_states_before_the_first_count_as_zero():
    cell = Recurrence("rnn", Activation("identity"), skips=(3,))
    one, zero = torch.ones(1, 1), torch.zeros(1, 1)
    weights = CellWeights(zero, zero, carries=torch.full((1, 1), 2.0))

    output, _, _ = run(cell, torch.zeros(7, 1, 1), one, None, weights)

    assert output.flatten().tolist() == [0, 0, 2, 0, 0, 4, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_call_without_parameters_that_need_gradients_builds_no_graph(kind):
    hidden, memory = state_of(kind)

    output, h_n, _ = run(
        Recurrence(kind), torch.randn(T, B, IN, dtype=torch.float64), hidden, memory,
        weights_of(kind),
    )  # fmt: skip

    assert not output.requires_grad and not h_n.requires_grad
