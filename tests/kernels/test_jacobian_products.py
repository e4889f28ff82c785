"""Products with a step's Jacobian agree with the matrix, and the matrix with its bound."""

from __future__ import annotations

import pytest
import torch

from gradreach.kernels.jacobian_products import Jacobians
from gradreach.kernels.top_singular import largest_singular_values

GATES = {"rnn": 1, "gru": 3, "lstm": 4}


def drawn(kind: str, hidden: int, *leading: int) -> Jacobians:
    """Jacobians of a cell whose derivatives are random numbers."""

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64)

    gated = kind != "rnn"
    return Jacobians(
        weight=draw(GATES[kind], hidden, hidden) / hidden**0.5,
        recurrent=draw(*leading, GATES[kind], hidden),
        carry=draw(*leading, hidden) if gated else None,
        cell_from_hidden=draw(*leading, hidden) if kind == "lstm" else None,
    )


@pytest.mark.parametrize("kind", GATES)
def test_products_are_those_of_the_written_out_matrix(kind):
    jacobians = drawn(kind, 5, 3, 2)
    vectors = torch.randn(3, 2, jacobians.size, 4, dtype=torch.float64)

    matrices = jacobians.dense()

    assert matrices.shape == (3, 2, jacobians.size, jacobians.size)
    # A sum of some tens of products of order 1.
    torch.testing.assert_close(jacobians.apply(vectors), matrices @ vectors, rtol=0, atol=1e-13)
    torch.testing.assert_close(
        jacobians.apply_transposed(vectors), matrices.mT @ vectors, rtol=0, atol=1e-13
    )


@pytest.mark.parametrize("kind", GATES)
def test_row_lengths_bound_the_rows_and_are_not_far_off(kind):
    jacobians = drawn(kind, 8, 6)

    true = torch.linalg.vector_norm(jacobians.dense(), dim=-1)
    bound = jacobians.row_lengths()

    assert bool((bound >= true * (1 - 1e-12)).all())
    assert float((bound / true).max()) < 20


@pytest.mark.parametrize("kind", GATES)
def test_a_single_step_a_flattened_and_a_stacked_collection_are_the_same_jacobians(kind):
    jacobians = drawn(kind, 4, 3, 2)
    matrices = jacobians.dense()

    assert torch.equal(jacobians[1].dense(), matrices[1])
    assert torch.equal(jacobians.flattened().dense(), matrices.flatten(0, 1))
    halves = Jacobians.stacked([jacobians[:1], jacobians[1:]])
    assert torch.equal(halves.dense(), matrices)


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("hidden", [3, 40, 150])
def test_block_krylov_finds_the_largest_singular_value(kind, hidden):
    jacobians = drawn(kind, hidden, 4)

    found, change = largest_singular_values(jacobians)

    expected = torch.linalg.svdvals(jacobians.dense())[:, 0]
    # From below, and stopped at a change of 1e-6.
    assert bool((found <= expected * (1 + 1e-12)).all())
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    assert float(change.max()) <= 1e-6
