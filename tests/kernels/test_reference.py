"""The reference path: torch's numbers, and derivatives of every kind."""

from __future__ import annotations

import pytest
import torch

from gradreach.kernels import reference
from gradreach.kernels.activations import ACTIVATION_NAMES, activation_of
from gradreach.kernels.recurrence import GATES, CellWeights, Recurrence

T, B, IN, H = 4, 3, 2, 3
KINDS = ["rnn", "gru", "lstm"]
STRICT = {"rtol": 1e-5, "atol": 1e-8}  # the default passes a backward that is wrong by 1e-4


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def arguments_of(kind: str, skips: int, has_bias: bool) -> list[torch.Tensor | None]:
    rows = GATES[kind] * H
    return [
        drawn(T, B, IN), drawn(B, H), drawn(B, H) if kind == "lstm" else None,
        drawn(rows, IN), drawn(rows, H), drawn(rows), drawn(rows), drawn(H),
        drawn(skips, H) if skips else None, drawn(H) if has_bias else None,
    ]  # fmt: skip


def function_of(cell: Recurrence, packed: bool, reverse: bool):
    """Return the reference as a function of tensors only, as gradcheck wants it."""
    sizes = torch.tensor([3, 2, 2, 1]) if packed else None

    def call(inputs, hidden, memory, *numbers):
        if packed:
            inputs = inputs.flatten(0, 1)[: int(sizes.sum())]
        result = reference.run(cell, inputs, hidden, memory, CellWeights(*numbers), sizes, reverse)
        return tuple(part for part in result if part is not None)

    return call


@pytest.mark.parametrize("name", [n for n in ACTIVATION_NAMES if n != "relu"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_finite_differences_for_each_activation(kind, name):
    activation = activation_of(name)
    cell = Recurrence(kind, activation, skips=(1, 2))

    arguments = arguments_of(kind, 2, activation.has_bias)

    assert torch.autograd.gradcheck(function_of(cell, False, False), arguments, **STRICT)


# torch's own forward mode scripts its decompositions when it is first used.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_finite_differences_for_each_form(kind, packed, reverse):
    cell = Recurrence(kind, skips=(1, 3))

    call, arguments = function_of(cell, packed, reverse), arguments_of(kind, 2, False)

    assert torch.autograd.gradcheck(
        call, arguments, **STRICT, check_forward_ad=True, check_batched_grad=True
    )


@pytest.mark.parametrize("kind", KINDS)
def test_second_derivatives_are_those_of_finite_differences(kind):
    call, arguments = function_of(Recurrence(kind), False, False), arguments_of(kind, 0, False)

    assert torch.autograd.gradgradcheck(call, arguments, **STRICT, fast_mode=True)


@pytest.mark.parametrize("kind", KINDS)
def test_clipped_error_stays_within_its_bound_at_every_step(kind):
    cell, bound = Recurrence(kind, clip=0.01), 0.01
    arguments = arguments_of(kind, 0, False)
    call = function_of(cell, False, False)

    output = call(*arguments)[0]
    (100 * output).sum().backward()

    # db_ih = Σ_{t,b} δ_t: each of the T·B terms is within the bound, and some are at it.
    assert arguments[5].grad.abs().max() <= T * B * bound
    assert arguments[5].grad.abs().max() > bound
    same = function_of(Recurrence(kind), False, False)(*arguments)[0]
    assert torch.equal(output, same)


def test_clipped_error_of_one_step_is_the_clamped_error():
    cell = Recurrence("rnn", activation_of("identity"), clip=0.5)
    inputs = torch.zeros(1, 1, 3, requires_grad=True)
    weights = CellWeights(torch.eye(3), torch.eye(3))

    output, _, _ = reference.run(cell, inputs, torch.zeros(1, 3), None, weights)
    (output * torch.tensor([0.2, 3.0, -3.0])).sum().backward()

    torch.testing.assert_close(inputs.grad.flatten(), torch.tensor([0.2, 0.5, -0.5]))


@pytest.mark.parametrize("kind", KINDS)
def test_vmap_over_weights_equals_a_loop(kind):
    call = function_of(Recurrence(kind, clip=1.0), False, False)
    models = [
        [None if part is None else part.detach() for part in arguments_of(kind, 0, False)]
        for _ in range(3)
    ]
    stacked = [None if c[0] is None else torch.stack(c) for c in zip(*models, strict=True)]
    present = [place for place, column in enumerate(stacked) if column is not None]

    def of_present(*tensors):
        every = [None] * len(stacked)
        for place, tensor in zip(present, tensors, strict=True):
            every[place] = tensor
        return call(*every)[0]

    result = torch.vmap(of_present)(*(stacked[place] for place in present))

    wanted = torch.stack([call(*model)[0] for model in models])
    torch.testing.assert_close(result, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_one_step_equals_a_sequence_of_one(kind):
    cell = Recurrence(kind, skips=(1,))
    arguments = arguments_of(kind, 1, False)
    weights = CellWeights(*arguments[3:])

    hidden, memory = reference.step(cell, arguments[0][0], *arguments[1:3], weights)

    _, h_n, c_n = reference.run(cell, arguments[0][:1], *arguments[1:3], weights)
    assert torch.equal(hidden, h_n)
    assert c_n is None or torch.equal(memory, c_n)
