"""Long products of Jacobians that neither overflow nor lose their small singular values.

Multiplied out in float64, a product of a hundred Jacobians keeps the directions within 1e-16
of its largest and loses the others. Here it is kept as Q · diag(e^logs) · U: Q orthonormal, U
well conditioned, all that is large or small in ``logs``, by one QR factorisation a step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["GradedProduct", "orthonormal_start"]

EPSILON = torch.finfo(torch.float64).eps
SHIFT = 700.0  # largest exponent of e that float64 holds


def orthonormal_start(count: int, size: int, width: int, seed: int) -> Tensor:
    """Return the same random orthonormal columns for each of ``count`` sequences.

    Random, because a direction that the product annihilates must not be among them.

    Shape:
        returns: ``(count, size, width)`` float64.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(size, width, generator=generator, dtype=torch.float64)
    start: Tensor = torch.linalg.qr(drawn)[0]
    return start.expand(count, size, width)


@dataclass
class GradedProduct:
    """The product ``P·Q_0 = basis · diag(e^logs) · mixing`` of several sequences, step by step.

    A direction that a step annihilates (or maps to less than float64 can tell from 0) has log
    -∞ from there on and a zero column in ``basis``.

    Shape:
        basis: ``(n, S, k)``; logs: ``(n, k)``; mixing: ``(n, k, k)``, or ``None`` where only
        the logs are wanted.
    """

    basis: Tensor
    logs: Tensor
    mixing: Tensor | None = None

    @classmethod
    def begin(cls, basis: Tensor, *, mixing: bool) -> GradedProduct:
        """Return the empty product."""
        count, _, width = basis.shape
        logs = basis.new_zeros(count, width)
        unit = torch.eye(width, dtype=basis.dtype).expand(count, width, width)
        return cls(basis, logs, unit.clone() if mixing else None)

    def advance(self, moved: Tensor, scale: Tensor, active: Tensor) -> None:
        """Take one more factor into the product.

        Args:
            moved: The factor times ``basis``, ``(n, S, k)``.
            scale: ``(n, S)`` length of the factor's rows, which says what is rounding in
                ``moved``.
            active: ``(n,)``: sequences that have this step; the others stay as they are.
        """
        rows = active.nonzero()[:, 0]
        if not len(rows):
            return
        basis, upper, order = _graded_qr(moved[rows], scale[rows])
        logs = self.logs[rows].gather(1, order)
        if self.mixing is not None:
            mixing = self.mixing[rows].gather(1, order[..., None].expand_as(upper))
            self.mixing[rows] = _between_scales(upper, logs) @ mixing
        self.logs[rows] = logs + upper.diagonal(dim1=-2, dim2=-1).log()
        self.basis = self.basis.index_copy(0, rows, basis)

    def restart(self, rows: Tensor) -> None:
        """Count growth from here on for some sequences; what is annihilated stays so."""
        chosen = rows[:, None] & self.logs.isfinite()
        self.logs = self.logs.masked_fill(chosen, 0.0)


def _between_scales(upper: Tensor, logs: Tensor) -> Tensor:
    """Return D⁻¹ N D with D = diag(e^logs) and N the unit triangular part of R = diag(r) N."""
    diagonal = upper.diagonal(dim1=-2, dim2=-1)
    lives, lived = diagonal > 0, logs.isfinite()
    unit = upper / torch.where(lives, diagonal, 1.0)[..., None]
    kept = torch.where(lived, logs, 0.0)
    shift = (kept[..., None, :] - kept[..., :, None]).clamp(-SHIFT, SHIFT).exp()
    return torch.where(lives[..., :, None] & lived[..., None, :], unit * shift, 0.0)


def _graded_qr(columns: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return Q, R and the order of the columns, so that ``columns[order] = Q R``, R_ii ≥ 0.

    The rows are factorised the longest first: with rows of very different length (saturated
    units, or dead ones) Householder's method then keeps each row's own digits. A column that
    depends on those before it, within rounding, adds no direction: it moves to the end, where
    R_ii and the column of Q are 0.
    """
    count, size, width = columns.shape
    order = torch.arange(width).expand(count, width)
    lengths, place = scale.sort(dim=-1, descending=True)
    columns = columns.gather(1, place[..., None].expand_as(columns))
    # What is left of a column below row i is exact to rounding of the longest row there.
    floor = 4.0 * size * EPSILON * lengths[:, :width]
    for _ in range(width):
        q, r = torch.linalg.qr(columns)
        diagonal = r.diagonal(dim1=-2, dim2=-1)
        zero = diagonal.abs() <= floor
        behind = zero.flip(1).cumprod(1).flip(1).bool()
        misplaced = zero & ~behind
        if not bool(misplaced.any()):
            break
        # The first one only: those after it were factorised against a direction of noise.
        first = misplaced & (misplaced.cumsum(1) == 1)
        moved = first.byte().argsort(dim=1, stable=True)
        columns = columns.gather(2, moved[:, None, :].expand_as(columns))
        order = order.gather(1, moved)
    sign = torch.where(diagonal < 0, -1.0, 1.0)
    q = (q * sign[:, None, :]).masked_fill(zero[:, None, :], 0.0)
    r = (r * sign[..., None]).masked_fill(zero[..., None], 0.0)
    unsorted = torch.empty_like(q).scatter_(1, place[..., None].expand_as(q), q)
    return unsorted, r, order
