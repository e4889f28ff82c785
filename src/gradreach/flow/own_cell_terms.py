"""What each step of an own cell contributes to a parameter's gradient, and whether all is there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradreach.flow.closure import TOLERANCE, relative_error
from gradreach.flow.norms import total_norm
from gradreach.flow.own_cell_rerun import Scaled
from gradreach.flow.own_cell_scan import OwnScan

__all__ = ["Closure", "MeasuredChain", "Terms", "closures", "kept", "summed"]

LARGEST = 512 * 2**20  # bytes of contribution matrices kept in a record


@dataclass
class Terms:
    """The contributions of one chain to one parameter, summed up."""

    total: Tensor
    norms: NDArray[np.float64]
    shares: NDArray[np.float64]


@dataclass
class MeasuredChain:
    """One chain of one cell."""

    module: str
    axis: str
    scan: OwnScan
    terms: dict[str, Terms] = field(default_factory=dict)


def summed(scan: OwnScan) -> dict[str, Terms]:
    """Sum up each parameter's contributions, with norms and shares."""
    names = dict.fromkeys(name for step in scan.contributions for name in step)
    found = {}
    for name in names:
        steps = [step.get(name) for step in scan.contributions]
        some = next(term.value for term in steps if term is not None)
        total = torch.zeros_like(some, dtype=torch.float64)
        for term in steps:
            if term is not None:
                total += term.double()
        norms = [0.0 if term is None else float(total_norm(term.value)) * term.factor
                 for term in steps]  # fmt: skip
        found[name] = Terms(total, np.array(norms), _shares(steps, total))
    return found


def _shares(steps: list[Scaled | None], total: Tensor) -> NDArray[np.float64]:
    """Return ⟨c_k, Σc⟩/‖Σc‖²; NaN where the sum is 0."""
    norm = float(total_norm(total))
    if norm == 0.0:
        return np.full(len(steps), np.nan)
    unit = total / norm
    return np.array(
        [0.0 if term is None
         else float((term.value.double() * unit).sum()) * (term.factor / norm)
         for term in steps]
    )  # fmt: skip


@dataclass
class Closure:
    """How well Σ_k c_k agrees with the gradient of one parameter.

    Args:
        error: Relative error, or ``None`` where there is nothing to compare with.
        reference: ``"backward"`` or ``"replay"``: what it was compared with.
        outside: Share of the gradient that arrived outside the recorded calls.
    """

    error: float | None
    reference: str
    outside: float


def closures(
    measured: list[MeasuredChain], gradients: dict[int, Tensor | None]
) -> dict[int, Closure]:
    """Compare, over all cells that share a parameter, Σ_k c_k with the gradient torch computed.

    A remainder is gradient that reaches the parameter outside the recorded calls. What is left
    to check then is that the state gradients are those of the user's backward pass.
    """
    sums: dict[int, Tensor] = {}
    tensors: dict[int, Tensor] = {}
    strayed: dict[int, float] = {}
    for each in measured:
        owned = dict(each.scan.chain.calls[0].module.named_parameters())
        difference, captured = each.scan.disagreement
        astray = (difference / captured) ** 0.5 if captured > 0 else float(difference > 0)
        for name, terms in each.terms.items():
            key = id(owned[name])
            tensors[key] = owned[name]
            sums[key] = sums[key] + terms.total if key in sums else terms.total
            strayed[key] = max(strayed.get(key, 0.0), astray)
    found: dict[int, Closure] = {}
    for key, total in sums.items():
        gradient = gradients.get(key)
        error = None if gradient is None else relative_error(_matrix(total), _matrix(gradient))
        tolerance = TOLERANCE.get(tensors[key].dtype, 1e-3)
        finite = gradient is None or bool(gradient.isfinite().all())
        if error is not None and (error <= tolerance or not finite):
            found[key] = Closure(error, "backward", 0.0)
        else:
            found[key] = Closure(strayed[key], "replay", error or 0.0)
    return found


def _matrix(values: Tensor) -> Tensor:
    return values.reshape(len(values), -1) if values.dim() else values.reshape(1, 1)


def kept(each: MeasuredChain) -> dict[str, list[tuple[NDArray[Any], float]]] | None:
    """Return the contributions as the record keeps them, unless they are too large."""
    steps = each.scan.contributions
    size = sum(t.value.numel() * t.value.element_size() for step in steps for t in step.values())
    if size > LARGEST:
        return None
    return {
        name: [
            (step[name].value.cpu().numpy(), step[name].factor) if name in step
            else (np.zeros(tuple(terms.total.shape)), 1.0)
            for step in steps
        ]
        for name, terms in each.terms.items()
    }  # fmt: skip
