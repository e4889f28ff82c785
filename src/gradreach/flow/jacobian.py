"""Singular values of ∂s_t/∂s_{t-1} along the data, and of their product."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from gradreach.flow.along_data import (
    CHUNK,
    EXACT_SIZE,
    pulled_back,
    pushed_forward,
    state_size,
)
from gradreach.flow.chosen_rows import chosen_rows, remarks
from gradreach.kernels.graded_product import orthonormal_start
from gradreach.kernels.graded_svd import graded_singular_values
from gradreach.kernels.jacobian_products import Jacobians, jacobians_of, rows_of
from gradreach.kernels.tape import Tape
from gradreach.kernels.top_singular import largest_singular_values
from gradreach.records import JacobianSummary

__all__ = ["jacobian_summary"]

MOST_STEPS = 512  # looked at one by one; longer sequences are sampled evenly
MIDDLE_STEPS = 4  # of a large state: steps of the first sequence with median and smallest value
WIDTH, TOLD = 16, 8  # directions iterated, and told, of the product of large Jacobians
ROUNDS, SETTLED = 6, 1e-5  # of block power iteration on the product; change of log10 at its end


def jacobian_summary(tape: Tape, rows: Tensor, sequences: int) -> JacobianSummary:
    """Return the singular values of each step's Jacobian and of their product.

    Args:
        rows: Rows without NaN. sequences: Most of them to look at.

    Cost:
        As told by :attr:`gradreach.LayerFlow.jacobian`.
    """
    chosen = chosen_rows(tape, rows, sequences)
    size, own = state_size(tape), rows_of(tape, chosen)
    exact = size <= EXACT_SIZE
    notes = remarks(tape, rows)
    steps = _steps(tape.axis.steps)
    if len(steps) < tape.axis.steps:
        notes.append(f"single steps: {len(steps)} of {tape.axis.steps}, evenly spread")
    values = torch.full((3, len(steps), len(chosen)), torch.nan, dtype=torch.float64)
    product = torch.zeros(len(chosen), 0, dtype=torch.float64)
    if len(chosen):
        (_exact_steps if exact else _large_steps)(own, steps, values)
        if tape.cuts:
            notes.append(
                "no product: the state is changed between steps (masked, normalised), first "
                f"before step {min(tape.cuts)}"
            )
        else:
            product, remark = _exact_product(own) if exact else _large_product(own)
            notes += remark
    largest, median, smallest = values.numpy()
    return JacobianSummary(
        sequences=chosen.numpy(),
        steps=np.array(steps, dtype=np.int64),
        state_size=size,
        method="exact" if exact else "block Krylov",
        largest=largest,
        median=median,
        smallest=smallest,
        product_log10=(product / math.log(10)).numpy(),
        product_steps=own.axis.lengths.numpy(),
        notes=tuple(notes),
    )


def _steps(steps: int) -> list[int]:
    if steps <= MOST_STEPS:
        return list(range(steps))
    return sorted(set(np.linspace(0, steps - 1, MOST_STEPS).round().astype(int).tolist()))


def _exact_steps(tape: Tape, steps: list[int], values: Tensor) -> None:
    """Fill in largest, median and smallest of each step by decomposing the whole matrix."""
    for place, step in enumerate(steps):
        spectrum = torch.linalg.svdvals(jacobians_of(tape, step, step + 1)[0].dense())  # (n, S)
        found = torch.stack([spectrum[:, 0], _median(spectrum), spectrum[:, -1]])
        values[:, place] = torch.where(tape.axis.lengths > step, found, torch.nan)


def _median(spectrum: Tensor) -> Tensor:
    """The middle value; of an even number the mean of the two in the middle, as NumPy has it."""
    size = spectrum.shape[-1]
    return spectrum[..., [(size - 1) // 2, size // 2]].mean(-1)


def _large_steps(tape: Tape, steps: list[int], values: Tensor) -> None:
    """Fill in the largest value of each step, and the others at a few steps of one sequence."""
    lengths = tape.axis.lengths
    for first in range(0, len(steps), CHUNK // 4):
        some = steps[first : first + CHUNK // 4]
        together = Jacobians.stacked([jacobians_of(tape, step, step + 1) for step in some])
        largest, _ = largest_singular_values(together.flattened())
        largest = largest.view(len(some), -1)
        exists = torch.tensor(some)[:, None] < lengths
        values[0, first : first + len(some)] = torch.where(exists, largest, torch.nan)
    alone = rows_of(tape, torch.tensor([0]))
    for place in np.linspace(0, len(steps) - 1, MIDDLE_STEPS).round().astype(int).tolist():
        if steps[place] < int(lengths[0]):
            matrix = jacobians_of(alone, steps[place], steps[place] + 1)[0].dense()
            spectrum = torch.linalg.svdvals(matrix)
            values[1, place, 0], values[2, place, 0] = _median(spectrum)[0], spectrum[0, -1]


def _exact_product(tape: Tape) -> tuple[Tensor, list[str]]:
    size = state_size(tape)
    start = orthonormal_start(tape.axis.batch, size, size, seed=0)
    product = pushed_forward(tape, start, mixing=True)
    assert product.mixing is not None
    pairs = zip(product.logs, product.mixing, strict=True)
    return torch.stack([graded_singular_values(*pair) for pair in pairs]), []


def _large_product(tape: Tape) -> tuple[Tensor, list[str]]:
    """Find the largest singular values of the product by block power iteration on it."""
    basis = orthonormal_start(tape.axis.batch, state_size(tape), WIDTH, seed=0)
    found, change = None, math.inf
    for _ in range(ROUNDS):
        product = pushed_forward(tape, pulled_back(tape, basis), mixing=True)
        assert product.mixing is not None
        basis = product.basis
        pairs = zip(product.logs, product.mixing, strict=True)
        values = torch.stack([graded_singular_values(*pair) for pair in pairs])[:, :TOLD]
        if found is not None:
            settled = (values - found).abs().nan_to_num(nan=0.0)  # -inf - -inf: both nothing
            change = float(settled[:, 0].max()) / math.log(10)
        found = values
        if change < SETTLED:
            break
    assert found is not None
    remark = [f"product: its {TOLD} largest of {state_size(tape)} singular values"]
    if change >= SETTLED:
        remark.append(f"the product's largest log10 changed by {change:.1g} in the last iteration")
    return found, remark
