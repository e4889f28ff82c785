"""The reverse scan is autograd's backward, for every cell, row, cut and ragged end."""

from __future__ import annotations

import pytest
import torch
from tests.kernels.tapes import KINDS, bits, unrolled

from gradreach.kernels.reverse_scan import Arrivals, StateFlow, reverse_scan
from gradreach.kernels.unexplained import ROUNDING, unexplained

LENGTHS = [[9, 9], [9, 5, 2]]
# Two float64 backward passes of nine mild steps: some ten roundings each.
CLOSE = {"rtol": 1e-11, "atol": 1e-13}


def arrivals_for(tape, rows, with_cell):
    """Draw gradient at the outputs, nothing beyond a row's end, and at the last states."""
    exists = tape.axis.valid[:, None, :, None]

    def draw(*shape):
        return torch.randn(*shape, dtype=torch.float64)

    shape = (tape.axis.steps, rows, tape.axis.batch, tape.hidden_size)
    output, cell = draw(*shape) * exists, draw(*shape) * exists
    end = StateFlow(draw(*shape[1:]), draw(*shape[1:]) if tape.kind == "lstm" else None)
    return output, cell if with_cell else None, end


def run(tape, output, cell, end, total=False):
    """Scan, and lay the chunks out on the whole axis."""
    chunks = []
    into = reverse_scan(
        tape,
        Arrivals(
            lambda start, stop: output[start:stop],
            end,
            None if cell is None else lambda start, stop: cell[start:stop],
            total,
        ),
        chunks.append,
    )
    assert [chunk.stop for chunk in chunks[1:]] == [chunk.start for chunk in chunks[:-1]]
    names = ("hidden", "cell", "recurrent_side", "input_side", "outside", "outside_cell")
    return into, {
        name: torch.cat([getattr(chunk, name) for chunk in reversed(chunks)])
        for name in names
        if getattr(chunks[0], name) is not None
    }


def reference(made, output, cell, end, row):
    """Let autograd do it: gradients of all states, of the first state and of the weights."""
    loss = torch.zeros((), dtype=torch.float64)
    for step, state in enumerate(made.states):
        loss = loss + (state[0] * output[step, row]).sum()
        if cell is not None:
            loss = loss + (state[1] * cell[step, row]).sum()
    for index, length in enumerate(made.tape.axis.lengths.tolist()):
        last = made.states[length - 1]
        loss = loss + (last[0][index] * end.hidden[row, index]).sum()
        if end.cell is not None:
            loss = loss + (last[1][index] * end.cell[row, index]).sum()
    states = [part for state in made.states for part in state]
    weights = [weight for _, weight in made.tape.weights.named()]
    found = torch.autograd.grad(loss, [*states, *made.first, *weights], retain_graph=True,
                                allow_unused=True, materialize_grads=True)  # fmt: skip
    parts = len(made.first)
    hidden = torch.stack(found[: len(states) : parts])
    cells = torch.stack(found[1 : len(states) : parts]) if parts == 2 else None
    return hidden, cells, found[len(states) : len(states) + parts], found[len(states) + parts :]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("cuts", [(), (3, 6)], ids=["whole", "cut"])
def test_scan_equals_autograd_for_several_rows(kind, lengths, cuts):
    made = unrolled(kind, lengths, cuts)
    tape = made.tape
    output, cell, end = arrivals_for(tape, 3, with_cell=kind == "lstm")

    into, found = run(tape, output, cell, end)

    for row in range(3):
        hidden, cells, first, weights = reference(made, output, cell, end, row)
        torch.testing.assert_close(found["hidden"][:, row], hidden, **CLOSE)
        torch.testing.assert_close(into.hidden[row], first[0], **CLOSE)
        if kind == "lstm":
            torch.testing.assert_close(found["cell"][:, row], cells, **CLOSE)
            torch.testing.assert_close(into.cell[row], first[1], **CLOSE)
        sides = [found["input_side"][:, row], found["recurrent_side"][:, row]]
        sums = [torch.einsum("tbg,tbi->gi", sides[0], tape.inputs),
                torch.einsum("tbg,tbi->gi", sides[1], tape.previous),
                *(side.sum((0, 1)) for side in sides)]  # fmt: skip
        for got, expected in zip(sums, weights, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cuts", [(), (3,)], ids=["whole", "cut"])
def test_totals_are_split_into_flow_and_outside(kind, cuts):
    made = unrolled(kind, [9, 9], cuts)
    output, cell, _ = arrivals_for(made.tape, 1, with_cell=kind == "lstm")
    output[[1, 2, 5]] = 0.0  # steps at which nothing comes from outside
    nothing = StateFlow.zeros(made.tape)
    totals, cell_totals, *_ = reference(made, output, cell, nothing, 0)
    given = [totals[:, None], None if cell_totals is None else cell_totals[:, None]]

    _, found = run(made.tape, *given, nothing, total=True)

    torch.testing.assert_close(found["outside"], output, **CLOSE)
    assert not found["outside"][[1, 2, 5]].any()  # exactly none, not rounding
    torch.testing.assert_close(found["hidden"], given[0], **CLOSE)
    if kind == "lstm":
        torch.testing.assert_close(found["outside_cell"], cell, **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_scan_changes_neither_the_tape_nor_what_arrives(kind):
    made = unrolled(kind, [9, 5])
    output, cell, end = arrivals_for(made.tape, 2, with_cell=kind == "lstm")
    kept = [each.clone() for each in (output, cell, end.hidden, end.cell) if each is not None]
    before = bits(made.tape)

    first = run(made.tape, output, cell, end)[1]
    second = run(made.tape, output, cell, end)[1]

    assert bits(made.tape) == before
    arrived = [each for each in (output, cell, end.hidden, end.cell) if each is not None]
    assert all(torch.equal(a, b) for a, b in zip(arrived, kept, strict=True))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_no_arrivals_give_no_flow():
    tape = unrolled("gru", [9, 5]).tape
    hidden = []

    into = reverse_scan(tape, Arrivals(None, StateFlow.zeros(tape)), lambda c: hidden.append(c))

    assert not into.hidden.any()
    assert not any(chunk.hidden.any() for chunk in hidden)


def test_float64_flow_goes_on_where_float32_ends():
    made = unrolled("tanh", [300, 300])
    with torch.no_grad():
        made.tape.weights.recurrent.copy_(0.5 * torch.eye(4))
    tape = made.tape
    tape.hidden.zero_()  # φ' = 1: the flow halves exactly at each step
    end = StateFlow(torch.ones(1, 2, 4, dtype=torch.float64), None)

    into = reverse_scan(tape, Arrivals(None, end), lambda chunk: None)

    assert (into.hidden == 0.5**300).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_difference_within_rounding_counts_as_none(dtype):
    noise = {torch.float32: 1e-4, torch.float64: 1e-10}[dtype]
    flow = torch.tensor([[1.0, -3.0], [1.0, 0.0], [1e-300, 0.0], [0.0, 0.0]], dtype=torch.float64)
    total = flow + torch.tensor([[2.9 * noise, 0], [2 * noise, 0], [1e-300, 0], [1, 0]])

    found = unexplained(total, flow, ROUNDING[dtype])

    assert not found[[0, 2]].any()  # row 2: the user's dtype has no digits there
    torch.testing.assert_close(found[1], (total - flow)[1])
    assert found[3].tolist() == [1.0, 0.0]


def test_nan_is_never_explained():
    nan = torch.full((1, 2), torch.nan, dtype=torch.float64)

    assert unexplained(nan, torch.ones_like(nan), ROUNDING[torch.float64]).isnan().all()


def test_infinity_is_explained_by_a_flow_too_large_for_the_dtype_alone():
    inf, large = torch.inf, 1e38
    total = torch.tensor([[inf, 1.0], [inf, 1.0], [-inf, 1.0], [-inf, 1.0]], dtype=torch.float64)
    flow = torch.tensor([[1.0, 1.0], [large, 1.0], [large, 1.0], [-large, 1.0]])

    found = unexplained(total, flow.double(), ROUNDING[torch.float32])

    assert found[0].tolist() == [inf, 0.0]
    assert found[2].tolist() == [-inf, 0.0]
    assert not found[[1, 3]].any()
