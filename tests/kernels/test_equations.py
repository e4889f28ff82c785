"""Activations recomputed from states, their slopes, and what a NaN becomes."""

from __future__ import annotations

import pytest
import torch
from tests.kernels.tapes import KINDS, bits, unrolled
from torch import nn

from gradreach.kernels.equations import equations_of


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_recomputed_activations_give_the_states_back(kind):
    tape = unrolled(kind, [7, 7]).tape
    part = tape.activations

    if kind == "gru":
        assert list(part) == ["r", "z", "n", "q"]
        hidden = (1 - part["z"]) * part["n"] + part["z"] * tape.previous
    else:
        cell = part["f"] * tape.previous_cell + part["i"] * part["g"]
        torch.testing.assert_close(cell, tape.cell, rtol=1e-13, atol=1e-15)
        hidden = part["o"] * cell.tanh()

    torch.testing.assert_close(hidden, tape.hidden, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("steps", [1, 63, 130])
def test_cell_states_are_rebuilt_from_the_first(steps):
    tape = unrolled("lstm", [steps, steps]).tape
    known, tape.cell = tape.cell, None
    first = tape.previous_cell[:1]
    tape.previous_cell = first

    equations_of("lstm").recompute(tape)

    torch.testing.assert_close(tape.cell, known, rtol=1e-12, atol=1e-14)
    assert torch.equal(tape.previous_cell[:1], first)
    assert torch.equal(tape.previous_cell[1:], tape.cell[:-1])


@pytest.mark.parametrize("kind", KINDS)
def test_slope_is_the_derivative_of_the_units_own_nonlinearity(kind):
    tape = unrolled(kind, [7, 7]).tape

    slope = equations_of(kind).slope(tape, 2, 5)

    value = {"gru": lambda: tape.activations["n"], "lstm": lambda: tape.activations["g"]}.get(
        kind, lambda: tape.hidden
    )()[2:5]
    expected = (value > 0).double() if kind == "relu" else 1 - value**2
    torch.testing.assert_close(slope, expected, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_coefficients_leave_the_tape_alone_even_when_written_to(kind):
    # A float64 tape widened to float64 is no copy: what is written there would be lost states.
    tape = unrolled(kind, [7, 7]).tape
    before = bits(tape)

    local = equations_of(kind).coefficients(tape, 0, 7)
    local.recurrent.zero_()

    assert bits(tape) == before


def test_dead_relu_is_zero_at_the_kink_and_nan_stays_nan():
    tape = unrolled("relu", [3]).tape
    tape.hidden = torch.tensor([[[0.0, -0.0, 1e-300, torch.nan]]], dtype=torch.float64)

    slope = equations_of("relu").slope(tape, 0, 1)

    assert slope[0, 0, :3].tolist() == [0.0, 0.0, 1.0]
    assert slope[0, 0, 3].isnan()


def test_layer_without_biases_is_recomputed():
    tape = unrolled("gru", [4]).tape
    cell = nn.GRUCell(3, 4, bias=False).double()
    weights = type(tape.weights)(cell.weight_ih, cell.weight_hh, None, None, ("a", "b"))
    tape.weights = weights

    equations_of("gru").recompute(tape)

    part = tape.activations
    hidden = (1 - part["z"]) * part["n"] + part["z"] * tape.previous
    torch.testing.assert_close(hidden[0], cell(tape.inputs[0], tape.previous[0]).detach())


def test_gates_are_named_in_torchs_order():
    assert [equations_of(kind).gates for kind in KINDS] == [(), (), ("r", "z"), ("i", "f", "o")]
    with pytest.raises(KeyError):
        equations_of("mamba")
