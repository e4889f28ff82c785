"""The native kernels as operators of torch: torch's own check, shapes, errors, statistics."""

from __future__ import annotations

import pytest
import torch
from tests.kernels.native_calls import (
    KINDS,
    LayerCall,
    differentiated,
    drawn_call,
    upstream_of,
)

from gradreach.kernels.native import core
from gradreach.kernels.native.statistics import watched

FORMS = {
    "plain": {},
    "ragged reverse skip": {"lengths": [4, 3, 1], "reverse": True, "skips": (2, 3)},
}


@pytest.fixture(autouse=True)
def native(lacks):
    return core.load() or lacks(f"a native core: {core.why_not_loaded()}")


@pytest.fixture
def ops(native):
    from gradreach.kernels.native import ops

    return ops


def arguments(call: LayerCall, keep: bool) -> tuple:
    cell = call.cell
    return (
        *call.operands, call.batch_sizes, cell.kind, cell.activation.name,
        cell.activation.parameter, list(cell.skips), call.reverse, keep,
    )  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_operator_passes_torchs_own_check(ops, kind, form, dtype):
    call = drawn_call(kind, dtype=dtype, **FORMS[form]).requiring()

    told = torch.library.opcheck(torch.ops.gradreach.recurrence, arguments(call, True))

    assert set(told.values()) == {"SUCCESS"}


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("activation", ["tanh", "gelu", "modrelu"])
def test_operator_without_gradients_passes_torchs_own_check(ops, activation, keep):
    call = drawn_call("rnn", activation, scaled=True)

    told = torch.library.opcheck(torch.ops.gradreach.recurrence, arguments(call, keep))

    assert set(told.values()) == {"SUCCESS"}


@pytest.mark.parametrize("kind", KINDS)
def test_backward_operator_passes_torchs_own_check(ops, kind):
    call = drawn_call(kind, lengths=[4, 3, 1])
    output, _, cell_n, reserve = torch.ops.gradreach.recurrence(*arguments(call, True))
    upstream = [torch.randn_like(output), None, cell_n if kind == "lstm" else None]
    wanted = [x is not None for x in call.operands]

    told = torch.library.opcheck(
        torch.ops.gradreach.recurrence_backward,
        (upstream, *call.operands, output, reserve, *arguments(call, True)[10:-1], wanted),
    )

    assert set(told.values()) == {"SUCCESS"}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_operator_gives_the_bits_of_the_eager_path(ops, kind, form):
    call = drawn_call(kind, sizes=(4, 3, 5, 17), **FORMS[form])
    upstream = upstream_of(call.requiring().run())

    got = differentiated(call, upstream, ops)

    wanted = differentiated(call, upstream)
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


def test_gradients_of_chosen_operands_only_are_returned(ops):
    call = drawn_call("lstm").requiring(lambda place: place in (1, 4))
    results = ops.run(call.cell, *call.operands[:3], call.weights, None, False)

    results[0].sum().backward()

    assert [x is not None and x.grad is not None for x in call.operands] == [
        place in (1, 4) for place in range(10)
    ]


def test_double_backward_of_the_operator_is_refused_not_wrong(ops):
    call = drawn_call("rnn").requiring()
    output = ops.run(call.cell, *call.operands[:3], call.weights, None, False)[0]
    (gradient,) = torch.autograd.grad(output.sum(), call.inputs, create_graph=True)

    with pytest.raises(RuntimeError, match="no autograd formula was registered"):
        gradient.sum().backward()


def test_reserve_is_as_large_on_every_instruction_set(native, ops):
    call, sizes = drawn_call("lstm", sizes=(4, 3, 2, 17), dtype=torch.float32), set()
    before = native.isa()

    for isa in filter(native.isa_supported, native.compiled_isas()):
        native.use_isa(isa)
        sizes.add(torch.ops.gradreach.recurrence(*arguments(call, True))[3].numel())
    native.use_isa(before)

    assert len(sizes) == 1


def test_instruction_set_changed_between_forward_and_backward(native, ops, lacks):
    before = native.isa()
    if before == "baseline":
        lacks("a second instruction set of the native core")
    call = drawn_call("lstm", sizes=(4, 3, 2, 17), dtype=torch.float32)
    eager = call.requiring()
    compiled = call.requiring()
    leaves = [x for x in eager.operands if x is not None]
    results = eager.run()
    upstream = upstream_of(results)
    wanted = torch.autograd.grad(results, leaves, upstream, retain_graph=True)
    output = ops.run(compiled.cell, *compiled.operands[:3], compiled.weights, None, False)[0]

    native.use_isa("baseline")
    try:
        got = torch.autograd.grad(results, leaves, upstream)
        with pytest.raises(RuntimeError, match="told to use another instruction set"):
            output.sum().backward()
    finally:
        native.use_isa(before)

    # An eager call stays on the set it began with; the operators have forgotten theirs.
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


def test_operator_tells_who_watches_its_backward(ops):
    call = drawn_call("gru").requiring()
    output = ops.run(call.cell, *call.operands[:3], call.weights, None, False)[0]

    with watched() as seen:
        output.sum().backward()

    assert seen[0].rows == 12
    assert seen[0].state_norms.shape == (4, 3)
    assert (seen[0].state_norms > 0).all()
