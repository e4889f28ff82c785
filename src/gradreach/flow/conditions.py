"""The conditions for vanishing and exploding: what the weights prove, and what the data say."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from gradreach.flow.jacobian import jacobian_summary
from gradreach.flow.lyapunov import lyapunov_spectrum
from gradreach.kernels.tape import Tape
from gradreach.records import Conditions
from gradreach.records.plain import Array

__all__ = ["conditions_of"]

SEQUENCES = 4
KEEPING_GATE = {"lstm": "f", "gru": "z"}
GAMMA = 1.0  # of tanh and ReLU; a logistic state would have 1/4
SETTLED_LENGTH = 40  # steps from which λ_1, less its transient, says more than the whole product


def conditions_of(tape: Tape, rows: Tensor) -> Conditions:
    """Evaluate the conditions of Pascanu et al. (2013) for one layer's own recurrence.

    ‖∂h_t/∂h_{t-1}‖ = ‖diag(φ') W‖ ≤ γ σ_max(W), hence σ_max(W) < 1/γ is sufficient for
    vanishing and σ_max(W) > 1/γ necessary for exploding. The largest *eigenvalue*, which some
    versions name, decides neither: W = [[2, 2], [-2, -2]] has none but 0 and explodes.

    Args:
        rows: Rows without NaN.

    Reference:
        Pascanu, Mikolov & Bengio (2013), section 2.1, ICML version.
    """
    gate = KEEPING_GATE.get(tape.kind, "")
    norm, radius = (math.nan, math.nan) if gate else _of_weights(tape.weights.recurrent)
    growth, source = _along_data(tape, rows)
    mean, spread = _mean(growth)
    keep, product = _gate(tape, rows, gate)
    return Conditions(
        kind=tape.kind,
        verdict="not-on-weights" if gate else _verdict(norm, tape),
        gamma=math.nan if gate else GAMMA,
        spectral_norm=norm,
        spectral_radius=radius,
        growth=mean,
        spread=spread,
        growth_of=source,
        steps=tape.axis.steps,
        sequences=len(growth),
        lost=int(np.isneginf(growth).sum()),
        gate=gate,
        gate_keep=keep,
        gate_product_log10=product,
    )


def _of_weights(weight: Tensor) -> tuple[float, float]:
    wide = weight.double()
    if not bool(wide.isfinite().all()):
        return math.nan, math.nan
    norm = float(torch.linalg.matrix_norm(wide, 2))
    return norm, float(torch.linalg.eigvals(wide).abs().max())


def _verdict(norm: float, tape: Tape) -> str:
    """Compare with 1/γ, leaving room for the rounding of the weights' own dtype.

    An orthogonal matrix in float32 has σ_max = 1 ± 1e-7: neither side of 1 would be a finding.
    """
    rounding = 4.0 * tape.hidden_size**0.5 * torch.finfo(tape.weights.recurrent.dtype).eps
    if norm * GAMMA < 1.0 - rounding:
        return "must-vanish"
    return "cannot-explode" if norm * GAMMA <= 1.0 + rounding else "undecided"


def _along_data(tape: Tape, rows: Tensor) -> tuple[Array, str]:
    """Return nats per step along each sequence followed, and whose they are."""
    if tape.cuts or not len(rows):
        return np.zeros(0), ""
    if int(tape.axis.lengths[rows].max()) >= SETTLED_LENGTH:
        return lyapunov_spectrum(tape, rows, SEQUENCES, exponents=1).per_sequence[:, 0], "lyapunov"
    return jacobian_summary(tape, rows, SEQUENCES).growth_per_step, "product"


def _mean(growth: Array) -> tuple[float, float]:
    """Return mean and standard deviation over the sequences that anything passes through."""
    alive = growth[np.isfinite(growth)]
    if not len(alive):
        return (-math.inf if len(growth) else math.nan), math.nan
    return float(alive.mean()), float(alive.std(ddof=1)) if len(alive) > 1 else math.nan


def _gate(tape: Tape, rows: Tensor, gate: str) -> tuple[Array, Array]:
    """Return what the keeping gate alone lets through, per step and over a sequence, ``(H,)``."""
    if not gate or not len(rows):
        return np.zeros(0), np.zeros(0)
    valid = tape.axis.valid[:, rows, None]
    logs = torch.where(valid, tape.activations[gate][:, rows].double().log(), 0.0).sum((0, 1))
    per_step = (logs / valid.sum()).exp()
    return per_step.numpy(), (logs / len(rows) / math.log(10)).numpy()
