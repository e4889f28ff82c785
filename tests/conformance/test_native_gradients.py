"""The native kernels under autograd: gradcheck of everything, and what users do to graphs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.kernels.native_calls import (
    KINDS,
    TOLERANCE,
    LayerCall,
    assert_all_close,
    differentiated,
    drawn_call,
    upstream_of,
    variants,
)
from torch.utils.checkpoint import checkpoint

from gradreach.kernels import recurrence
from gradreach.kernels.native import core
from gradreach.kernels.native.statistics import watched

# torch's own default passes a backward that is wrong by 1e-4.
STRICT = {"rtol": 1e-5, "atol": 1e-8}


@pytest.fixture(autouse=True)
def _native(lacks):
    core.load() or lacks(f"a native core: {core.why_not_loaded()}")


def checked(call: LayerCall):
    """Return the call as a function of its leaves, and these."""
    call = call.requiring()
    leaves = [x for x in call.operands if x is not None]

    def function(*given):
        left = iter(given)
        return tuple(call.on(None if x is None else next(left) for x in call.operands).run())

    return function, leaves


@pytest.mark.parametrize(("name", "how"), variants(), ids=lambda x: x if type(x) is str else "")
@pytest.mark.parametrize("steps", [6, 2])  # of two steps an RNN reads its weights as they stand
def test_gradcheck(name, how, steps):
    lengths = how.get("lengths") and [min(steps, length) for length in how["lengths"]]
    call = drawn_call(sizes=(steps, 3, 2, 3), **how | {"lengths": lengths})
    function, leaves = checked(call)

    assert torch.autograd.gradcheck(function, leaves, **STRICT)


@pytest.mark.parametrize("activation", ["tanh", "leaky_relu", "gelu", "modrelu"])
@pytest.mark.parametrize("form", [{}, {"skips": (2,), "lengths": [3, 1], "scaled": True}])
def test_gradgradcheck_of_rnn(activation, form):
    function, leaves = checked(drawn_call("rnn", activation, sizes=(3, 2, 2, 2), **form))

    assert torch.autograd.gradgradcheck(function, leaves, **STRICT)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_gradgradcheck_of_gated_cells(kind):
    call = drawn_call(kind, sizes=(2, 2, 1, 2), lengths=[2, 1], skips=(1,), reverse=True)

    assert torch.autograd.gradgradcheck(*checked(call), **STRICT)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_with_a_graph_are_those_without(kind):
    call = drawn_call(kind, sizes=(6, 4, 3, 17), skips=(2,)).requiring()
    results, leaves = call.run(), [x for x in call.operands if x is not None]
    upstream = upstream_of(results)

    plain = torch.autograd.grad(results, leaves, upstream, retain_graph=True)
    with_graph = torch.autograd.grad(results, leaves, upstream, create_graph=True)

    assert all(x.requires_grad for x in with_graph)
    assert_all_close(list(plain), [x.detach() for x in with_graph], TOLERANCE[torch.float64])


# torch's own: it compiles decompositions for forward mode with what it deprecates.
forward_mode = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")


@forward_mode
@pytest.mark.parametrize("kind", KINDS)
def test_forward_mode_equals_reverse_mode(kind):
    call = drawn_call(kind, sizes=(5, 3, 2, 4), skips=(2,))
    tangent, upstream = torch.randn_like(call.inputs), torch.randn(5, 3, 4, dtype=torch.float64)

    def output(inputs):
        return recurrence.run(call.cell, inputs, call.hidden, call.cell_state, call.weights)[0]

    _, pushed = torch.func.jvp(output, (call.inputs,), (tangent,))

    inputs = call.inputs.clone().requires_grad_()
    (pulled,) = torch.autograd.grad(output(inputs), inputs, upstream)
    assert torch.isclose((pushed * upstream).sum(), (pulled * tangent).sum(), rtol=1e-12)


@forward_mode
@pytest.mark.parametrize("kind", KINDS)
def test_dual_numbers_give_the_output_of_the_native_path(kind):
    call = drawn_call(kind)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(call.inputs, torch.ones_like(call.inputs))
        reason = replace(call, inputs=dual).why_not()
        through = recurrence.run(call.cell, dual, call.hidden, call.cell_state, call.weights)[0]
        primal, tangent = torch.autograd.forward_ad.unpack_dual(through)

    assert reason == "forward-mode differentiation is at work"
    assert tangent is not None
    assert_all_close([primal], call.run()[:1], TOLERANCE[torch.float64])


@pytest.mark.parametrize("kind", KINDS)
def test_vmap_over_samples_equals_a_batch(kind):
    call = drawn_call(kind, sizes=(5, 4, 3, 6))

    def alone(inputs, hidden, memory):
        memory = None if memory is None else memory[None]
        result = recurrence.run(call.cell, inputs[:, None], hidden[None], memory, call.weights)
        return result[0][:, 0]

    places = (1, 0, None if call.cell_state is None else 0)
    mapped = torch.vmap(alone, in_dims=places, out_dims=1)(
        call.inputs, call.hidden, call.cell_state
    )

    assert_all_close([mapped], call.run()[:1], TOLERANCE[torch.float64])


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_by_torch_func_are_those_by_backward(kind):
    call = drawn_call(kind, sizes=(5, 4, 3, 6))

    def loss(recurrent):
        weights = call.weights._replace(recurrent=recurrent)
        return recurrence.run(call.cell, call.inputs, call.hidden, call.cell_state, weights)[
            0
        ].sum()

    got = torch.func.grad(loss)(call.weights.recurrent)

    leaf = call.weights.recurrent.clone().requires_grad_()
    loss(leaf).backward()
    assert_all_close([got], [leaf.grad], TOLERANCE[torch.float64])


# ---- graphs used in unusual ways


@pytest.mark.parametrize("kind", KINDS)
def test_retained_graph_gives_the_same_bits_twice_and_a_freed_one_complains(kind):
    call = drawn_call(kind, sizes=(6, 4, 3, 9)).requiring()
    results, leaves = call.run(), [x for x in call.operands if x is not None]
    upstream = upstream_of(results)

    once = torch.autograd.grad(results, leaves, upstream, retain_graph=True)
    again = torch.autograd.grad(results, leaves, upstream)

    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        torch.autograd.grad(results, leaves, upstream)


@pytest.mark.parametrize("kind", KINDS)
def test_two_backwards_of_one_graph_in_turn_do_not_mix(kind):
    call = drawn_call(kind, sizes=(6, 4, 3, 9)).requiring()
    leaves = [x for x in call.operands if x is not None]
    first, second = call.run(), call.run()
    upstream = upstream_of(first)

    of_second = torch.autograd.grad(second, leaves, upstream)
    of_first = torch.autograd.grad(first, leaves, upstream)

    assert all(torch.equal(a, b) for a, b in zip(of_first, of_second, strict=True))


@pytest.mark.parametrize("operand", [0, 1, 3, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_operand_changed_in_place_is_noticed(kind, operand):
    call = drawn_call(kind).requiring()
    results = call.run()
    with torch.no_grad():
        call.operands[operand].add_(1)

    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        results[0].sum().backward()


@pytest.mark.parametrize("kind", KINDS)
def test_output_changed_in_place_is_noticed(kind):
    results = drawn_call(kind).requiring().run()
    with torch.no_grad():
        results[0].add_(1)

    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        results[1].sum().backward()


@pytest.mark.parametrize("kind", KINDS)
def test_saved_tensors_may_be_packed_away_and_come_back_as_copies(kind):
    call = drawn_call(kind, sizes=(6, 4, 3, 9), skips=(2,))
    upstream = upstream_of(call.requiring().run())
    wanted = differentiated(call, upstream)
    packed = []

    def pack(tensor):
        packed.append(tensor.shape)
        return tensor.detach().numpy().copy()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: torch.from_numpy(kept)):
        got = differentiated(call, upstream)

    assert call.inputs.shape in packed
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_checkpointed_layer_has_the_same_gradients(kind, reentrant):
    call = drawn_call(kind, sizes=(6, 4, 3, 9))
    upstream = upstream_of(call.requiring().run())
    wanted = differentiated(call, upstream)
    leaves = call.requiring()

    function, _ = checked(call)
    given = [x for x in leaves.operands if x is not None]
    results = checkpoint(function, *given, use_reentrant=reentrant)
    torch.autograd.backward(results, upstream)

    got = [*(x.detach() for x in results), *(x.grad for x in given)]
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("kind", KINDS)
def test_without_grad_the_numbers_are_the_same_and_no_graph_is_built(kind, mode):
    call = drawn_call(kind, sizes=(6, 4, 3, 9), skips=(2,)).requiring()

    with mode():
        without = call.run()

    assert not any(x.requires_grad for x in without)
    assert all(torch.equal(a, b) for a, b in zip(without, call.run(), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_layer_passes_gradients_to_its_input_alone(kind):
    call = drawn_call(kind).requiring(lambda place: place == 0)

    call.run()[0].sum().backward()

    assert call.inputs.grad is not None
    assert all(x is None or x.grad is None for x in call.operands[1:])


@pytest.mark.parametrize("kind", KINDS)
def test_no_gradient_arriving_at_all_gives_none_or_zero(kind):
    call = drawn_call(kind).requiring()
    results = call.run()

    torch.autograd.backward([results[0] * 0 + results[1].detach()[None]], [results[0].detach()])

    assert all(x is None or not x.grad.any() for x in call.operands)


def test_statistics_are_collected_only_by_those_who_watched_the_forward():
    with watched() as seen:
        results = drawn_call("gru").requiring().run()
    unwatched = drawn_call("gru").requiring().run()

    with watched() as late:
        unwatched[0].sum().backward()
    assert not seen and not late
    results[0].sum().backward()

    assert len(seen) == 1 and not late


@pytest.mark.parametrize("kind", KINDS)
def test_watching_changes_no_bit_of_the_gradients(kind):
    call = drawn_call(kind, sizes=(9, 5, 3, 17), dtype=torch.float32)
    upstream = upstream_of(call.requiring().run())

    with watched():
        watching = differentiated(call, upstream)

    assert all(
        torch.equal(a, b) for a, b in zip(watching, differentiated(call, upstream), strict=True)
    )


@pytest.mark.parametrize("lengths", [None, [9, 4, 7]], ids=["dense", "ragged"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradient_of_the_pre_activations_is_told_to_who_asks(kind, lengths):
    # With more inputs than gates, ∂L/∂x = δ W_ih leaves one δ only.
    call = drawn_call(kind, sizes=(9, 3, 90, 21), lengths=lengths, skips=(2,)).requiring()
    with watched(pre_activations=True) as seen:
        results = call.run()
    torch.autograd.backward(results, upstream_of(results))

    delta, weights = seen[0].pre_activations, call.weights
    assert delta.shape == (*call.inputs.shape[:-1], len(weights.input))
    rows, inputs = delta.flatten(0, -2), call.inputs.detach().flatten(0, -2)
    assert torch.allclose(delta @ weights.input.detach(), call.inputs.grad, rtol=1e-10)
    assert torch.allclose(rows.T @ inputs, weights.input.grad, rtol=1e-10)
    assert torch.allclose(rows.sum(0), weights.input_bias.grad, rtol=1e-10)


def test_gradient_of_the_pre_activations_costs_nothing_where_nobody_asks():
    with watched() as seen, watched(pre_activations=True) as asked:
        results = drawn_call().requiring().run()
    with watched() as alone:
        others = drawn_call().requiring().run()
    (results[0].sum() + others[0].sum()).backward()

    assert seen[0] is asked[0] and asked[0].pre_activations is not None
    assert alone[0].pre_activations is None
