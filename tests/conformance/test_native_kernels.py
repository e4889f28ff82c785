"""The native core computes what the reference does: every kind, shape, layout, length, dtype."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.native_calls import (
    KINDS,
    TOLERANCE,
    LayerCall,
    assert_all_close,
    assert_native_equals_reference,
    differentiated,
    drawn_call,
    isas,
    upstream_of,
    variants,
)

from gradreach.kernels import reference
from gradreach.kernels.activations import ACTIVATION_NAMES, Activation
from gradreach.kernels.native import core
from gradreach.kernels.native.statistics import watched

DTYPES = [torch.float32, torch.float64]
# Around the widths of vectors (4, 8, 16) and of a tile of columns.
HIDDEN = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33]


@pytest.fixture(autouse=True)
def native(lacks):
    return core.load() or lacks(f"a native core: {core.why_not_loaded()}")


@pytest.fixture(params=isas())
def isa(request, native):
    before = native.isa()
    assert native.use_isa(request.param)
    yield request.param
    native.use_isa(before)


@st.composite
def calls(draw) -> LayerCall:
    kind = draw(st.sampled_from(KINDS))
    activation = draw(st.sampled_from(ACTIVATION_NAMES)) if kind == "rnn" else "tanh"
    T, B = draw(st.integers(1, 40)), draw(st.integers(1, 20))
    lengths = None
    if draw(st.booleans()):
        lengths = draw(st.lists(st.integers(1, T), min_size=B, max_size=B))
    torch.manual_seed(draw(st.integers(0, 10**6)))
    return drawn_call(
        kind,
        activation,
        sizes=(T, B, draw(st.integers(1, 20)), draw(st.sampled_from(HIDDEN))),
        skips=tuple(draw(st.lists(st.integers(1, 9), max_size=4))),
        scaled=kind == "rnn" and draw(st.booleans()),
        biased=draw(st.booleans()),
        lengths=lengths,
        reverse=draw(st.booleans()),
        dtype=draw(st.sampled_from(DTYPES)),
    )


def laid_out(x, way: str):
    """Return the same numbers in memory that is laid out another way."""
    if x is None or way == "dense":
        return x
    if way == "transposed":
        return x.transpose(0, 1).contiguous().transpose(0, 1) if x.dim() > 1 else x
    if way == "last apart":
        return x.new_zeros(*x.shape, 2).select(-1, 0).copy_(x)
    if way == "wide rows":
        wide = x.new_zeros(*x.shape[:-1], x.shape[-1] + 3)
        return wide[..., 1:-2].copy_(x)
    assert way == "unaligned"  # to everything but an element
    return x.new_zeros(x.numel() + 1)[1:].view(x.shape).copy_(x)


LAYOUTS = ["dense", "transposed", "last apart", "wide rows", "unaligned"]


@settings(max_examples=120)
@given(call=calls())
def test_native_equals_reference(call):
    assert_native_equals_reference(call)


@settings(max_examples=60)
@given(call=calls(), ways=st.lists(st.sampled_from(LAYOUTS), min_size=13, max_size=13))
def test_memory_layout_of_operands_and_gradients_changes_no_bit(call, ways):
    upstream = upstream_of(call.requiring().run())
    wanted = differentiated(call, upstream)

    apart = call.on(map(laid_out, call.operands, ways[:10]))
    got = differentiated(apart, [laid_out(x, w) for x, w in zip(upstream, ways[10:], strict=False)])

    for one, other in zip(got, wanted, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "how"), variants(), ids=lambda x: x if type(x) is str else "")
@pytest.mark.parametrize("steps", [7, 2])
def test_every_variant_on_every_instruction_set_equals_reference(isa, name, how, dtype, steps):
    # An RNN of so few rows as those of two steps reads its weights as they stand.
    lengths = how.get("lengths") and [min(steps, length) for length in how["lengths"]]
    call = drawn_call(sizes=(steps, 3, 5, 17), dtype=dtype, **how | {"lengths": lengths})

    assert_native_equals_reference(call)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_many_rows_and_units_on_every_instruction_set_equal_reference(isa, kind, dtype):
    call = drawn_call(kind, sizes=(7, 37, 19, 130), dtype=dtype, skips=(2,))

    assert_native_equals_reference(call)


@pytest.mark.parametrize("dtype", DTYPES)
def test_wide_rnn_over_few_steps_on_every_instruction_set_equals_reference(isa, dtype):
    # Forward and backward read these weights as they stand, the latter in panels cut both ways.
    call = drawn_call("rnn", sizes=(2, 9, 421, 530), dtype=dtype, skips=(2,))

    assert_native_equals_reference(call)


@pytest.mark.parametrize("inputs", [1, 2, 4, 5])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_few_inputs_on_every_instruction_set_equal_reference(isa, kind, inputs, dtype):
    call = drawn_call(kind, sizes=(6, 9, inputs, 100), dtype=dtype)

    assert_native_equals_reference(call)


@pytest.mark.parametrize("count", [1, 2])
def test_wide_rnn_of_ragged_rows_equals_reference(count):
    call = drawn_call("rnn", sizes=(3, 4, 530, 515), lengths=[3, 2, 2, 1], dtype=torch.float32)
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        assert_native_equals_reference(call)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "expand",
    [
        lambda out: torch.ones((), dtype=out.dtype).expand(out.shape),  # of output.sum()
        lambda out: torch.randn(out.shape[-1], dtype=out.dtype).expand(out.shape),
        lambda out: torch.randn(out.shape[1:], dtype=out.dtype).expand(out.shape),
        lambda out: torch.randn(len(out), 1, 1, dtype=out.dtype).expand(out.shape),
    ],
    ids=["scalar", "units", "rows", "steps"],
)
@pytest.mark.parametrize("kind", KINDS)
def test_upstream_gradient_expanded_with_stride_0_is_read_right(kind, expand):
    call = drawn_call(kind, sizes=(6, 5, 3, 9))
    results = call.requiring().run()

    upstream = [expand(results[0]), *upstream_of(results[1:])]

    assert 0 in upstream[0].stride()
    assert_native_equals_reference(call, upstream)


@pytest.mark.parametrize("kind", KINDS)
def test_batch_first_inputs_give_the_numbers_of_time_first_ones(kind):
    call = drawn_call(kind, sizes=(9, 4, 3, 8), dtype=torch.float32)
    batch_first = call.inputs.transpose(0, 1).contiguous()

    got = replace(call, inputs=batch_first.transpose(0, 1)).run()

    assert all(torch.equal(a, b) for a, b in zip(got, call.run(), strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("slope", "name"), [(0.0, "leaky_relu"), (0.3, "leaky_relu"), (2, "elu")])
def test_shape_parameter_reaches_the_core(name, slope, dtype):
    assert_native_equals_reference(drawn_call("rnn", Activation(name, slope), dtype=dtype))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (1, 20, 3, 5), (40, 1, 2, 16), (1, 1, 33, 17)])
def test_one_step_or_one_row_equals_reference(kind, sizes):
    assert_native_equals_reference(drawn_call(kind, sizes=sizes, skips=(1,)))


@pytest.mark.parametrize("wanted", ["inputs", "hidden", "weights", "h_n alone", "output alone"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_asked_for_in_part_are_those_of_the_whole(kind, wanted):
    call = drawn_call(kind, sizes=(6, 3, 4, 9), skips=(2,))
    chosen = {"inputs": [0], "hidden": [1], "weights": range(3, 10)}.get(wanted, range(10))
    whole, part = call.requiring(), call.requiring(lambda place: place in chosen)
    results, of_part = whole.run(), part.run()
    used = {"h_n alone": [1], "output alone": [0]}.get(wanted, range(len(results)))
    upstream = [torch.randn_like(results[i]) for i in used]
    leaves = [i for i in chosen if call.operands[i] is not None]

    got = torch.autograd.grad([of_part[i] for i in used], [part.operands[i] for i in leaves],
                              upstream)  # fmt: skip

    expected = call.requiring()
    outputs = expected.run(reference)
    by_reference = torch.autograd.grad(
        [outputs[i] for i in used], [expected.operands[i] for i in leaves], upstream
    )
    assert_all_close(list(got), list(by_reference), TOLERANCE[torch.float64])


# ---- numbers that are none


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", ["inputs", "hidden", "weight"])
@pytest.mark.parametrize(
    ("kind", "activation"),
    [("gru", "tanh"), ("lstm", "tanh"), *[("rnn", name) for name in ACTIVATION_NAMES]],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_and_infinity_travel_as_in_the_reference(kind, activation, place, bad, dtype):
    call = drawn_call(kind, activation, sizes=(5, 3, 4, 9), dtype=dtype)
    broken = [None if x is None else x.clone() for x in call.operands]
    where = {"inputs": (0, (2, 1, 3)), "hidden": (1, (1, 4)), "weight": (4, (2, 5))}[place]
    broken[where[0]][where[1]] = bad
    call = call.on(broken)

    got, wanted = call.run(), call.run(reference)

    for one, other in zip(got, wanted, strict=True):
        if activation == "gelu":  # torch's own gelu of infinity is either, by vector or by number
            finite = other.isfinite()
            assert torch.equal(one.isfinite(), finite)
            one, other = one[finite], other[finite]
        torch.testing.assert_close(one, other, equal_nan=True, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_nan_upstream_reaches_every_gradient_it_does_in_the_reference(kind):
    call = drawn_call(kind, sizes=(5, 3, 4, 9))
    upstream = upstream_of(call.requiring().run())
    upstream[0][3, 1, 2] = float("nan")

    got = differentiated(call, upstream)
    wanted = differentiated(call, upstream, reference)

    for one, other in zip(got, wanted, strict=True):
        assert torch.equal(one.isnan(), other.isnan())


# ---- what the backward sees on its way


def by_hand(call: LayerCall, upstream):
    """Return state gradients, slopes and gates of a dense call, from autograd and definitions."""
    call = call.converted(torch.float64)
    T, size = len(call.inputs), call.hidden.shape[1]
    plain, rows = replace(call.cell, skips=()), []
    states = [call.hidden.detach().requires_grad_()]
    memory = None if call.cell_state is None else call.cell_state.detach().requires_grad_()
    slopes, gates = [], []
    bare = call.weights._replace(scale=None, carries=None)
    for t in reversed(range(T)) if call.reverse else range(T):
        x = call.inputs[t]
        now = x @ bare.input.T + (0 if bare.input_bias is None else bare.input_bias)
        past = states[-1] @ bare.recurrent.T
        past = past + (0 if bare.recurrent_bias is None else bare.recurrent_bias)
        slopes.append(candidate_slope(call, now.detach(), past.detach()))
        gates.append(gates_of(call.cell.kind, now.detach(), past.detach()))
        u, memory = reference.step(plain, x, states[-1], memory, bare)
        h = u if call.weights.scale is None else call.weights.scale * u
        for place, lag in enumerate(call.cell.skips):
            if lag <= len(states):
                h = h + call.weights.carries[place] * states[-lag]
        states.append(h)
        rows.append(t)
    order = sorted(range(T), key=rows.__getitem__)
    outputs = torch.stack([states[1 + i] for i in order])
    ends = [states[-1]] + ([] if memory is None else [memory])
    gradients = torch.autograd.grad([outputs, *ends], states[1:], [x.double() for x in upstream])
    norms = torch.stack([gradients[i].norm(dim=-1) for i in order])
    return norms, torch.stack(slopes).view(-1, size), torch.stack(gates).flatten(0, 1)


def candidate_slope(call, now, past):
    activation, weights, size = call.cell.activation, call.weights, call.hidden.shape[1]
    if call.cell.kind == "rnn":
        return activation.derivative(now + past, weights.activation_bias)
    if call.cell.kind == "gru":
        r = (now + past)[:, :size].sigmoid()
        return activation.derivative(now[:, 2 * size :] + r * past[:, 2 * size :])
    return activation.derivative((now + past)[:, 2 * size : 3 * size])


def gates_of(kind, now, past):
    size = now.shape[1] // {"rnn": 1, "gru": 3, "lstm": 4}[kind]
    both = now + past
    if kind == "rnn":
        return both
    if kind == "gru":
        r, z = both[:, : 2 * size].sigmoid().chunk(2, 1)
        return torch.cat([r, z, (now[:, 2 * size :] + r * past[:, 2 * size :]).tanh()], 1)
    i, f, g, o = both.chunk(4, 1)
    return torch.cat([i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()], 1)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("skips", [(), (1, 3)])
@pytest.mark.parametrize(
    ("kind", "activation"),
    [("gru", "tanh"), ("lstm", "tanh"), *[("rnn", name) for name in ACTIVATION_NAMES]],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_statistics_are_those_of_the_definitions(kind, activation, skips, reverse, dtype):
    call = drawn_call(
        kind, activation, sizes=(7, 5, 3, 9), skips=skips, reverse=reverse, dtype=dtype,
        scaled=kind == "rnn" and bool(skips),
    )  # fmt: skip
    # Some units that saturate, some that are dead.
    call.weights.recurrent_bias[:2] -= 4
    with watched() as seen:
        results = call.requiring().run()
    upstream = upstream_of(results)

    torch.autograd.backward(results, upstream)

    (told,) = seen
    norms, slopes, gates = by_hand(call, upstream)
    assert told.rows == 35
    close = {"rtol": 20 * TOLERANCE[dtype], "atol": 20 * TOLERANCE[dtype]}
    torch.testing.assert_close(told.state_norms, norms, **close)
    torch.testing.assert_close(told.slope_max, slopes.abs().amax(0), **close)
    assert torch.equal(told.slope_low, (slopes.abs() < 0.05).sum(0).double())
    if kind == "rnn":
        assert told.gate_sums is None
    else:
        torch.testing.assert_close(told.gate_sums, gates.sum(0), **close)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_sums_of_gates_over_many_rows_are_right_to_their_bound(kind):
    call = drawn_call(kind, sizes=(6, 70, 3, 17), dtype=torch.float32)
    with watched() as seen:
        results = call.requiring().run()
    upstream = upstream_of(results)

    torch.autograd.backward(results, upstream)

    (told,) = seen
    _, _, gates = by_hand(call, upstream)
    # Up to 32 rows are added in float32 (31 * 2^-24 = 1.8e-6 of the magnitudes); each gate is
    # itself a float32 result after six steps, good to 2e-6.
    wrong = (told.gate_sums - gates.sum(0)).abs() / gates.abs().sum(0)
    assert wrong.max() < 4e-6


def test_norms_of_gradients_below_the_smallest_square_are_kept():
    call = drawn_call("rnn", sizes=(3, 2, 3, 8), dtype=torch.float32)
    with watched() as seen:
        results = call.requiring().run()

    results[0][2].sum().mul(1e-30).backward()  # 1e-60 is 0 in float32

    assert seen[0].state_norms[2].tolist() == pytest.approx([8**0.5 * 1e-30] * 2, rel=1e-6)
