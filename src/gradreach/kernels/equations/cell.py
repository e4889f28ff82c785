"""What the reverse scan asks of a recurrent cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from gradreach.kernels.native.linear import Addend, linear_sum
from gradreach.kernels.tape import Tape

__all__ = ["Coefficients", "Equations", "pre_activation"]


@dataclass(frozen=True)
class Coefficients:
    """Local derivatives of a stretch of steps, float64, ready for the scan.

    With δh, δc the total state gradients of a step, the step does

    ==============  =====================================================================
    cell            ``δc += δh · cell_from_hidden``
    pre-activation  ``δa = source · recurrent`` (source: δh; for LSTM δc, and δh for ``o``)
    to the past     ``δh' = δa W_hh + δh · carry``;  LSTM ``δc' = δc · carry``
    input side      ``δa_in = δa``, but for GRU's candidate ``δh · candidate``
    ==============  =====================================================================

    Shape:
        recurrent: ``(K, B, G, H)``; the others ``(K, B, H)``.
    """

    recurrent: Tensor
    carry: Tensor | None = None
    cell_from_hidden: Tensor | None = None
    candidate: Tensor | None = None


class Equations(Protocol):
    """One kind of cell. Stateless."""

    @property
    def gates(self) -> tuple[str, ...]:
        """Letters of the gates, in torch's order."""
        ...

    def recompute(self, tape: Tape) -> None:
        """Fill ``tape.activations`` (and the cell states) from inputs and hidden states."""
        ...

    def coefficients(self, tape: Tape, start: int, stop: int) -> Coefficients:
        """Return the local derivatives of steps ``start … stop-1`` in float64."""
        ...

    def slope(self, tape: Tape, start: int, stop: int) -> Tensor:
        """Return φ' of the unit's own nonlinearity, ``(K, B, H)``: of the candidate where gated."""
        ...


def pre_activation(*addends: Addend) -> Tensor:
    """Return Σ (values Wᵀ + b) of all steps at once, detached; ``(T, B, G·H)``.

    Args:
        addends: Values ``(T, B, K)``, weight and bias or ``None``; one or two.
    """
    bare: list[Addend] = [
        (values.detach(), weight.detach(), None if bias is None else bias.detach())
        for values, weight, bias in addends
    ]
    if (total := linear_sum(bare)) is not None:
        return total
    values, weight, bias = bare[0]
    total = torch.nn.functional.linear(values, weight, bias)
    for values, weight, bias in bare[1:]:  # in place, without a second of its size
        total.view(-1, total.shape[-1]).addmm_(values.flatten(0, 1), weight.T)
        if bias is not None:
            total += bias
    return total
