"""Runs a block of directions through a layer's Jacobians, along the states of the measured pass."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from gradreach.kernels.graded_product import GradedProduct
from gradreach.kernels.jacobian_products import jacobians_of
from gradreach.kernels.tape import Tape
from gradreach.kernels.time_axis import TimeAxis

__all__ = ["EXACT_SIZE", "pulled_back", "pushed_forward", "state_size"]

# Up to this state size matrices are written out and factorised whole: a singular value
# decomposition takes 3 ms at 128, 15 ms at 256 and 130 ms at 512, for each step and sequence.
EXACT_SIZE = 128
CHUNK = 32  # steps whose derivatives are in memory at once


def state_size(tape: Tape) -> int:
    """Return S, the numbers in the state: H, for an LSTM 2H."""
    return tape.hidden_size * (2 if tape.kind == "lstm" else 1)


def pushed_forward(
    tape: Tape,
    basis: Tensor,
    *,
    mixing: bool = False,
    before: Callable[[int, GradedProduct], None] | None = None,
) -> GradedProduct:
    """Multiply the Jacobians of all steps onto ``basis``, the first one first.

    Args:
        before: Called with each step and the product of the steps before it.

    Shape:
        basis: ``(n, S, k)`` for the n sequences of the tape.
    """
    product = GradedProduct.begin(basis, mixing=mixing)
    lengths = tape.axis.lengths
    for start, stop in _chunks(tape.axis):
        jacobians = jacobians_of(tape, start, stop)
        scale = jacobians.row_lengths()
        for step in range(start, stop):
            if before is not None:
                before(step, product)
            moved = jacobians[step - start].apply(product.basis)
            product.advance(moved, scale[step - start], lengths > step)
    return product


def pulled_back(tape: Tape, basis: Tensor) -> Tensor:
    """Multiply the transposed Jacobians onto ``basis``, the last one first; return the columns."""
    product = GradedProduct.begin(basis, mixing=False)
    lengths = tape.axis.lengths
    for start, stop in reversed(list(_chunks(tape.axis))):
        jacobians = jacobians_of(tape, start, stop)
        for step in reversed(range(start, stop)):
            moved = jacobians[step - start].apply_transposed(product.basis)
            product.advance(moved, moved.norm(dim=-1), lengths > step)
    return product.basis


def _chunks(axis: TimeAxis) -> list[tuple[int, int]]:
    steps = axis.steps
    return [(start, min(start + CHUNK, steps)) for start in range(0, steps, CHUNK)]
