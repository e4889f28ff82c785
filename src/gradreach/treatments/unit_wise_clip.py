"""Adaptive gradient clipping: each output unit's gradient against its own weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from gradreach.treatments.finished_gradient import parameters_of

__all__ = ["clip_grad_units_"]

LEAST_WEIGHT = 1e-3  # ε of the paper: units that start from zero must be able to leave it


@torch.no_grad()
def clip_grad_units_(optimizer: Optimizer, ratio: float, *, last: bool = False) -> None:
    """Scale each unit's gradient down to ``ratio`` times the norm of the unit's weights.

    A unit is a row of a matrix (what feeds one output); a vector is one unit as a whole::

        g_i ← g_i · min(1, ratio · max(‖w_i‖, 0.001) / ‖g_i‖)

    Args:
        optimizer: Whose parameters they are.
        ratio: λ of the paper, which tries 0.01 … 0.16.
        last: Treat the output layer as well; the paper does not. It is taken to be the last
            matrix among the optimizer's parameters and the vectors after it.

    Cost:
        One pass over weights and gradients.

    Reference:
        Brock, De, Smith & Simonyan (2021), section 4.1, equation 3. arXiv:2102.06171.

    Example:
        >>> weight = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
        >>> weight.grad = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
        >>> clip_grad_units_(torch.optim.SGD([weight]), 0.1, last=True)
        >>> weight.grad
        tensor([[0.0000e+00, 5.0000e-01], [0.0000e+00, 1.0000e-04]])
    """
    parameters = parameters_of(optimizer)
    for parameter in parameters if last else _inner(parameters):
        if parameter.grad is not None and not parameter.grad.is_sparse:
            _clip(parameter, parameter.grad, ratio)


def _clip(weight: Tensor, gradient: Tensor, ratio: float) -> None:
    most = _unit_norms(weight).clamp_(min=LEAST_WEIGHT).mul_(ratio)
    found = _unit_norms(gradient)
    # Not a clamp of most/found: 0/0 would be NaN for a unit without any gradient.
    gradient.mul_(torch.where(found > most, most / found, torch.ones_like(found)))


def _unit_norms(values: Tensor) -> Tensor:
    """Return the norm of each unit, in a shape that broadcasts over the values."""
    if values.squeeze().dim() <= 1:
        whole: Tensor = torch.linalg.vector_norm(values)
        return whole.reshape([1] * values.dim())
    norms: Tensor = torch.linalg.vector_norm(
        values, dim=tuple(range(1, values.dim())), keepdim=True
    )
    return norms


def _inner(parameters: Sequence[Tensor]) -> Sequence[Tensor]:
    """Leave out the last matrix and what stands after it."""
    matrices = [place for place, each in enumerate(parameters) if each.dim() >= 2]
    return parameters[: matrices[-1]] if matrices else parameters
