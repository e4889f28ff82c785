"""Largest singular values of many large Jacobians at once, by a block Krylov method."""

from __future__ import annotations

import torch
from torch import Tensor

from gradreach.kernels.jacobian_products import Jacobians

__all__ = ["largest_singular_values"]

BLOCK = 4  # directions iterated together: the top values of a random matrix lie close
DEPTH = 40  # rounds at most; random matrices of 1,024 units settle in about 12
SETTLED = 1e-6  # relative change over two rounds at which a value counts as found


def largest_singular_values(jacobians: Jacobians, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return the largest singular value of each Jacobian, and the change of the last products.

    Block power iteration that keeps what it has seen: the value is the largest within the span
    of all blocks so far (randomised block Krylov). It approaches the true one from below and,
    unlike plain power iteration, does so quickly where the top values lie close together.

    Shape:
        jacobians: one leading dimension, ``(M,)``; returns: two ``(M,)`` float64.

    Cost:
        2·BLOCK products with J or Jᵀ per round, as a rule 10 to 20 rounds; memory
        ``M·S·BLOCK·rounds·16`` bytes.

    Reference:
        Musco & Musco (2015), Randomized block Krylov methods for stronger and faster
        approximate singular value decomposition. arXiv:1504.05477.
    """
    count, size = jacobians.recurrent.shape[0], jacobians.size
    if size <= 8 * BLOCK:  # the blocks would fill the space before they tell anything
        whole = torch.linalg.svdvals(jacobians.dense())[:, 0]
        return whole, torch.zeros_like(whole)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(size, BLOCK, generator=generator, dtype=torch.float64)
    block = torch.linalg.qr(jacobians.apply(drawn.expand(count, *drawn.shape)))[0]
    basis, turned = block, jacobians.apply_transposed(block)  # Jᵀ of the whole basis
    value = _largest(turned)
    change = torch.full_like(value, torch.inf)
    for round_ in range(DEPTH):
        if basis.shape[-1] + block.shape[-1] > size:
            break
        block = jacobians.apply(turned[..., -block.shape[-1] :])
        for _ in range(2):  # once leaves rounding of the size of what was removed
            block = block - basis @ (basis.mT @ block)
            block = torch.linalg.qr(block)[0]
        basis = torch.cat([basis, block], -1)
        turned = torch.cat([turned, jacobians.apply_transposed(block)], -1)
        if round_ % 2:
            found = _largest(turned)
            change = (found - value) / found.clamp(min=torch.finfo(torch.float64).tiny)
            value = found
            if bool((change <= SETTLED).all()):
                break
    return value, change.abs()


def _largest(matrices: Tensor) -> Tensor:
    """Largest singular value of tall thin matrices, by their small Gram matrix."""
    square: Tensor = torch.linalg.eigvalsh(matrices.mT @ matrices)[..., -1]
    return square.clamp(min=0).sqrt()
