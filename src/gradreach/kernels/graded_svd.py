"""Singular values, as logarithms, of a matrix whose rows differ by hundreds of magnitudes."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["graded_singular_values"]

COUPLED = 1e-12  # two directions with less than that between them are told apart
SWEEPS = 100  # of QR iteration; what is coupled after them lies within a factor 0.87 or closer
SHIFT = 700.0  # largest exponent of e that float64 holds


def graded_singular_values(logs: Tensor, mixing: Tensor) -> Tensor:
    """Return the natural logs of the singular values of ``diag(e^logs) · mixing``, descending.

    QR iteration in a form that never leaves float64: the matrix stays ``R · diag(e^grades)``
    with a triangular R of unit diagonal, whose other entries die out as the directions
    separate. Directions too close to separate are taken together at the end, by the singular
    values of their block.

    Shape:
        logs: ``(k,)``, -∞ for rows that are zero; mixing: ``(k, k)``; returns: ``(k,)``.

    Cost:
        Up to 100 QR factorisations of ``(k, k)``; a handful where the values differ clearly.

    Example:
        >>> logs = torch.tensor([500.0, -500.0], dtype=torch.float64)
        >>> graded_singular_values(logs, torch.eye(2, dtype=torch.float64))
        tensor([ 500., -500.], dtype=torch.float64)
    """
    result = torch.full_like(logs, -torch.inf)
    alive = logs.isfinite()
    if not bool(alive.any()):
        return result
    order = logs[alive].argsort(descending=True, stable=True)
    grades = logs[alive][order]
    # Mᵀ = Q R diag(e^grades): the same singular values as R diag(e^grades).
    upper, grades = _normalised(torch.linalg.qr(mixing[alive][order].T, mode="r")[1], grades)
    for _ in range(SWEEPS):
        coupling = upper * _ratio(grades).T
        if float(coupling.triu(1).abs().max()) < COUPLED:
            break
        # (R D)ᵀ = (D Rᵀ D⁻¹) D, and D Rᵀ D⁻¹ = Q R' is as harmless as R was.
        upper, grades = _normalised(torch.linalg.qr(coupling.T, mode="r")[1], grades)
    values = torch.cat(_of_blocks(upper, grades))
    result[: len(values)] = values.sort(descending=True).values
    return result


def _normalised(upper: Tensor, grades: Tensor) -> tuple[Tensor, Tensor]:
    """Move the diagonal of R into the grades; the signs do not matter to singular values."""
    diagonal = upper.diagonal()
    return upper / diagonal, grades + diagonal.abs().log()


def _ratio(grades: Tensor) -> Tensor:
    """Return ``e^(grades_i - grades_j)``."""
    return (grades[:, None] - grades[None, :]).clamp(-SHIFT, SHIFT).exp()


def _of_blocks(upper: Tensor, grades: Tensor) -> list[Tensor]:
    """Return the log singular values of each block of directions that are still coupled."""
    coupled = (upper * _ratio(grades).T).triu(1).abs() >= COUPLED
    values, start, size = [], 0, len(grades)
    farthest = 0  # last direction that one of this block is coupled to
    for place in range(size):
        partners = coupled[place].nonzero()[:, 0]
        farthest = max(farthest, place, int(partners[-1]) if len(partners) else 0)
        if farthest > place:
            continue
        own = slice(start, place + 1)
        peak = grades[own].max()
        block = upper[own, own] * (grades[own] - peak).exp()
        values.append(torch.linalg.svdvals(block).log() + peak)
        start = place + 1
    return values
