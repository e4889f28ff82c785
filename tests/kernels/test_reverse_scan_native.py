"""The compiled core's scan, sums, norms and gates are those of plain torch in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.tapes import KINDS

from gradreach.kernels import reverse_scan as module
from gradreach.kernels.equations import equations_of
from gradreach.kernels.native.core import load
from gradreach.kernels.native.rows import distance, row_norms, slopes_below, unit_sums, write_scaled
from gradreach.kernels.native.scan import KeptRooms, NativeScan
from gradreach.kernels.native.terms import Block, add_along, weight_terms
from gradreach.kernels.reverse_scan import (
    Arrivals,
    StateFlow,
    keeping_scan,
    plain_scan,
    reverse_scan,
)
from gradreach.kernels.tape import LayerWeights, Tape
from gradreach.kernels.time_axis import TimeAxis
from gradreach.kernels.unexplained import ROUNDING

pytestmark = pytest.mark.skipif(load() is None, reason="the native core is not built")

GATES = {"tanh": 1, "relu": 1, "gru": 3, "lstm": 4}
CASES = {
    "kind": st.sampled_from(KINDS),
    "dtype": st.sampled_from([torch.float32, torch.float64]),
    "lengths": st.lists(st.integers(1, 40), min_size=1, max_size=9),
    "hidden": st.integers(1, 40),
    "probes": st.integers(1, 3),
    "seed": st.integers(0, 2**31),
}


def drawn_tape(kind, dtype, lengths, hidden, cuts=(), size=3):
    """Draw a tape: any numbers in the range of the activations will do."""
    steps, batch = max(lengths), len(lengths)
    rows = GATES[kind] * hidden
    weights = LayerWeights(
        torch.randn(rows, size, dtype=dtype), torch.randn(rows, hidden, dtype=dtype) / hidden**0.5,
        torch.randn(rows, dtype=dtype), torch.randn(rows, dtype=dtype), ("ih", "hh", "bi", "bh"),
    )  # fmt: skip
    states = torch.randn(steps + 1, batch, hidden, dtype=dtype).tanh_()
    tape = Tape(
        kind, TimeAxis(steps, torch.tensor(lengths)), weights,
        torch.randn(steps, batch, size, dtype=dtype), states[:-1], states[1:],
        cuts=frozenset(cuts),
    )  # fmt: skip
    if kind == "lstm":
        tape.previous_cell = torch.randn(1, batch, hidden, dtype=dtype)
    equations_of(kind).recompute(tape)
    return tape


def drawn_arrivals(tape, probes, *, total=False, ends=True):
    def draw(*shape):
        return torch.randn(*shape, dtype=torch.float64)

    shape = (tape.axis.steps, probes, tape.axis.batch, tape.hidden_size)
    output, cell = draw(*shape), draw(*shape) if tape.kind == "lstm" else None
    end = StateFlow.zeros(tape, probes)
    if ends:
        end = StateFlow(draw(*shape[1:]), draw(*shape[1:]) if cell is not None else None)
    return Arrivals(
        lambda start, stop: output[start:stop], end,
        None if cell is None else lambda start, stop: cell[start:stop], total,
    )  # fmt: skip


def laid_out(scan, tape, arrivals):
    """Run a scan and return everything it gives, on the whole axis."""
    chunks = []
    into = scan(tape, arrivals, chunks.append)
    names = ("hidden", "cell", "recurrent_side", "input_side", "outside", "outside_cell")
    found = {
        name: torch.cat([getattr(chunk, name) for chunk in reversed(chunks)])
        for name in names
        if getattr(chunks[0], name) is not None
    }
    found["into_hidden"] = into.hidden
    if into.cell is not None:
        found["into_cell"] = into.cell
    return found


def assert_same(found, expected):
    """Forty steps of float64 roundings, relative to the largest entry of each vector."""
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        scale = values.abs().amax(-1, keepdim=True)
        assert ((found[name] - values).abs() <= 1e-12 * scale + 1e-300).all(), name


@given(**CASES, data=st.data())
@settings(max_examples=60, deadline=None)
def test_native_scan_equals_plain_scan(kind, dtype, lengths, hidden, probes, seed, data):
    torch.manual_seed(seed)
    cuts = data.draw(st.sets(st.integers(1, max(lengths)), max_size=3))
    tape = drawn_tape(kind, dtype, lengths, hidden, cuts)
    arrivals = drawn_arrivals(tape, probes)
    assert NativeScan.of(tape, probes, ROUNDING[dtype]) is not None

    found = laid_out(reverse_scan, tape, arrivals)

    assert_same(found, laid_out(plain_scan, tape, arrivals))


@given(**CASES)
@settings(max_examples=30, deadline=None)
def test_native_scan_of_totals_equals_plain_scan(kind, dtype, lengths, hidden, probes, seed):
    torch.manual_seed(seed)
    tape = drawn_tape(kind, dtype, [max(lengths)] * len(lengths), hidden, (2,))
    arrivals = drawn_arrivals(tape, probes, total=True, ends=False)

    found = laid_out(reverse_scan, tape, arrivals)

    assert_same(found, laid_out(plain_scan, tape, arrivals))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_an_infinity_entered_unless_the_flow_is_too_large_for_the_dtype(kind, dtype):
    tape = drawn_tape(kind, dtype, [12, 12], 5)
    drawn = drawn_arrivals(tape, 1, total=True, ends=False)
    output = drawn.output(0, 12)
    large = torch.finfo(dtype).max
    output[9, 0, 0, 3] = -torch.inf  # met by a flow of ordinary size
    output[9, 0, 1] = 8 * large if dtype == torch.float32 else 0.5 * large
    output[8, 0, 1] = torch.inf  # which the flow of that may explain
    arrivals = Arrivals(lambda start, stop: output[start:stop].clone(), drawn.end, drawn.cell, True)

    found = laid_out(reverse_scan, tape, arrivals)

    expected = laid_out(plain_scan, tape, arrivals)
    assert found["outside"][9, 0, 0, 3] == -torch.inf
    assert found["hidden"][10:].isfinite().all()
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, equal_nan=True, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("batch", "hidden"), [(24, 100), (2, 400)], ids=["rows", "columns"])
def test_threads_do_not_change_the_scan(kind, batch, hidden, threads_of_two):
    tape = drawn_tape(kind, torch.float32, [20] * batch, hidden)
    arrivals = drawn_arrivals(tape, 1)

    found = laid_out(reverse_scan, tape, arrivals)

    assert_same(found, laid_out(plain_scan, tape, arrivals))


@pytest.fixture
def threads_of_two():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", KINDS)
def test_passing_chunks_are_right_while_they_last(kind):
    tape = drawn_tape(kind, torch.float64, [200] * 8, 40)
    arrivals, expected = drawn_arrivals(tape, 1), {}
    plain_scan(tape, arrivals, lambda c: expected.update({c.start: c.input_side[0].clone()}))
    found = []

    reverse_scan(tape, arrivals, lambda c: found.append((c.start, c.input_side[0].clone())),
                 passing=True)  # fmt: skip

    whole = laid_out(plain_scan, tape, arrivals)["input_side"]
    assert len(found) > 1
    for start, values in found:
        torch.testing.assert_close(values, whole[start], rtol=1e-11, atol=1e-13)


def kept_rooms(tape):
    """Make memory for a scan that keeps what it finds."""

    def rows(size):
        values = tape.hidden.new_empty(*tape.hidden.shape[:2], size)
        wide = tape.hidden.dtype == torch.float64
        return values, None if wide else torch.empty(values.shape[:2], dtype=torch.float64)

    units, kind = tape.hidden_size, tape.kind
    norms = torch.empty(tape.hidden.shape[:2], dtype=torch.float64)
    return KeptRooms(
        rows(units), rows(units) if kind == "lstm" else None, rows(GATES[kind] * units),
        rows(units) if kind == "gru" else None, norms,
    )  # fmt: skip


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("batch", "hidden"), [(3, 20), (24, 100), (2, 400)], ids=str)
def test_a_scan_that_keeps_what_it_finds_finds_the_same(
    kind, dtype, batch, hidden, threads, monkeypatch
):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    lengths = [20] * (batch - 1) + [9]
    tape = drawn_tape(kind, dtype, lengths, hidden, (4,))
    arriving, end = torch.randn_like(tape.hidden), drawn_arrivals(tape, 1).end
    rooms = kept_rooms(tape)

    into = keeping_scan(tape, arriving, end, lambda: rooms)

    arrivals = Arrivals(lambda start, stop: arriving[start:stop, None], end)
    expected = laid_out(plain_scan, tape, arrivals)
    assert_same({"into_hidden": into.hidden}, {"into_hidden": expected["into_hidden"]})
    sides = {"hidden": rooms.hidden, "cell": rooms.cell, "input_side": rooms.side}
    if rooms.last is not None:
        sides["recurrent_side"] = rooms.last
    for name, kept in sides.items():
        if kept is None:
            continue
        values = kept[0].double() if kept[1] is None else kept[0].double() * kept[1][..., None]
        wanted = expected[name][:, 0, :, -values.shape[-1] :]
        peak = wanted.abs().amax(-1, keepdim=True)
        # In float32 a row is kept with 24 digits of its largest entry.
        close = 1e-12 if dtype == torch.float64 else 6.1e-8
        assert ((values - wanted).abs() <= close * peak).all(), name
    whole = expected["hidden"][:, 0].norm(dim=-1)
    if kind == "lstm":
        whole = torch.hypot(whole, expected["cell"][:, 0].norm(dim=-1))
    torch.testing.assert_close(rooms.norms, whole, rtol=1e-12, atol=0)


def test_a_tape_the_core_does_not_take_is_scanned_plainly(monkeypatch):
    tape = drawn_tape("gru", torch.float64, [9, 4], 5)
    tape.activations["q"] = tape.activations["q"].transpose(1, 2).contiguous().transpose(1, 2)
    arrivals = drawn_arrivals(tape, 2)
    monkeypatch.setattr(module, "_native_scan", None)  # calling it would raise

    found = laid_out(reverse_scan, tape, arrivals)

    assert_same(found, laid_out(plain_scan, tape, arrivals))


@given(
    shape=st.tuples(*(st.integers(1, n) for n in (30, 9, 50, 60))),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    power=st.sampled_from([0, -30, -280, 140]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_terms_equal_explicit_matrices(shape, dtype, power, seed):
    torch.manual_seed(seed)
    steps, batch, width, columns = shape
    delta = torch.randn(steps, batch, width, dtype=dtype)
    values = torch.randn(steps, batch, columns, dtype=dtype)
    scales = torch.rand(steps, batch, dtype=torch.float64) * 10.0**power
    total = torch.zeros(width, columns, dtype=torch.float64)
    matrices = torch.einsum("tbg,tbi,tb->tgi", delta.double(), values.double(),
                            scales * 10.0**-power)  # fmt: skip

    found = weight_terms(Block(delta, scales), values, total)

    assert found is not None
    size = matrices.abs().amax()
    unit = 10.0**-power
    expected = torch.linalg.matrix_norm(matrices)
    # Relative to the terms' rows: float64 products of at most 9 rows.
    assert ((found.norms * unit - expected).abs() <= 1e-12 * size * columns * width).all()
    assert ((total * unit - matrices.sum(0)).abs() <= 1e-11 * size).all()
    sums = torch.einsum("tbg,tb->tg", delta.double(), scales * 10.0**-power)
    torch.testing.assert_close(found.sums * unit, sums, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(7, 3, 20, 9), (5, 130, 33, 70), (200, 1, 4, 1)], ids=str)
def test_products_with_a_direction_equal_explicit_matrices(dtype, shape):
    steps, batch, width, columns = shape
    delta = torch.randn(steps, batch, width, dtype=dtype)
    values = torch.randn(steps, batch, columns, dtype=dtype)
    scales = torch.rand(steps, batch, dtype=torch.float64) * 1e-200
    direction, along = torch.randn(width, columns, dtype=dtype), torch.zeros(steps).double()

    assert add_along(Block(delta, scales), values, direction, along)

    matrices = torch.einsum("tbg,tbi,tb->tgi", delta.double(), values.double(), scales * 1e200)
    expected = (matrices * direction).sum((1, 2))
    size = torch.linalg.matrix_norm(matrices) * direction.double().norm()
    close = 1e-5 if dtype == torch.float32 else 1e-13
    assert ((along * 1e200 - expected).abs() <= close * size).all()


def test_tiny_rows_beside_rows_of_zeros_keep_their_norm():
    delta = torch.zeros(2, 3, 4)
    delta[:, 1] = 1.0
    scales = torch.ones(2, 3, dtype=torch.float64)  # a row of zeros has scale 1
    scales[:, 1] = 1e-250
    total = torch.zeros(4, 5, dtype=torch.float64)

    found = weight_terms(Block(delta, scales), torch.ones(2, 3, 5), total)

    assert found is not None
    expected = torch.full((2,), 20**0.5 * 1e-250, dtype=torch.float64)
    torch.testing.assert_close(found.norms, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("size", [1e-300, 1e-170, 1.0, 1e170, 1e300])
def test_norms_neither_underflow_nor_overflow(size):
    values = torch.full((3, 2, 11), size, dtype=torch.float64)

    norms, whole = row_norms(values), distance(values, None)

    expected = torch.full((3, 2), 11**0.5 * size, dtype=torch.float64)
    torch.testing.assert_close(norms, expected, rtol=1e-14, atol=0)
    assert whole == pytest.approx(66**0.5 * size, rel=1e-14)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_no_number_stays_so(bad):
    values = torch.ones(2, 1, 5, dtype=torch.float64)
    values[1, 0, 3] = bad
    kept, scales = torch.empty(2, 1, 5), torch.empty(2, 1, dtype=torch.float64)

    norms = row_norms(values)
    assert write_scaled(values, kept, scales)

    assert norms is not None
    assert norms[0, 0].isfinite()
    assert not norms[1, 0].isfinite()
    assert scales.tolist() == [[1.0], [1.0]]
    torch.testing.assert_close(kept.double(), values, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("steps", [9, 1])  # with two threads, one of which may have none
@pytest.mark.parametrize("batch", [4, 8000])
def test_units_are_counted_over_the_rows_that_exist(dtype, relu, steps, batch, threads_of_two):
    values = torch.randn(steps, batch, 13, dtype=dtype).mul_(2).clamp_(-1, 1)
    lengths = torch.tensor([9, 5, 1, 7]).repeat(batch // 4).clamp(max=steps)
    exists = torch.arange(steps)[:, None] < lengths

    low, zero = slopes_below(values, lengths, 0.05, relu=relu)
    sums = unit_sums(values, lengths)

    wide = values.double()
    slope = (wide > 0).double() if relu else 1 - wide * wide
    kept = wide * exists[..., None]
    assert torch.equal(low, ((slope < 0.05) & exists[..., None]).sum((0, 1)).double())
    assert torch.equal(zero, ((slope == 0) & exists[..., None]).sum((0, 1)).double())
    torch.testing.assert_close(sums.per_unit, kept.sum((0, 1)))
    torch.testing.assert_close(sums.per_step, kept.sum((1, 2)))


@pytest.mark.parametrize("kind", ["gru", "lstm"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gates_equal_those_of_plain_torch(kind, dtype, monkeypatch):
    torch.manual_seed(3)
    found = drawn_tape(kind, dtype, [30] * 5, 21)
    monkeypatch.setattr("gradreach.kernels.native.gates.core_for", lambda *tensors: None)
    torch.manual_seed(3)

    expected = drawn_tape(kind, dtype, [30] * 5, 21)

    # A few units in the last place, summed over the cell states' steps in float64.
    close = (
        {"rtol": 2e-6, "atol": 2e-6} if dtype == torch.float32 else {"rtol": 1e-13, "atol": 1e-13}
    )
    for name, values in expected.activations.items():
        torch.testing.assert_close(found.activations[name], values, **close)
    if kind == "lstm":
        torch.testing.assert_close(found.cell, expected.cell, **close)
        torch.testing.assert_close(found.previous_cell, expected.previous_cell, **close)
