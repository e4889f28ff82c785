"""Finite-time Lyapunov exponents along the data, by QR factorisation at every step."""

from __future__ import annotations

import torch
from torch import Tensor

from gradreach.flow.along_data import EXACT_SIZE, pushed_forward, state_size
from gradreach.flow.chosen_rows import chosen_rows, remarks
from gradreach.kernels.graded_product import GradedProduct, orthonormal_start
from gradreach.kernels.jacobian_products import rows_of
from gradreach.kernels.tape import Tape
from gradreach.records import LyapunovSpectrum

__all__ = ["lyapunov_spectrum"]

FEWER = 32  # exponents of a large state, where all of them would take S QR columns a step
SHORTEST = 12  # steps: 10 + 12/10 leave one


def lyapunov_spectrum(
    tape: Tape, rows: Tensor, sequences: int, exponents: int | None
) -> LyapunovSpectrum:
    """Return the largest finite-time Lyapunov exponents.

    Q_0 is random and orthonormal, Q_t R_t = J_t Q_{t-1}, and λ_i the mean of log R_t[i, i] over
    the steps that are left once 10 + T/10 are dropped, in which Q turns into the directions of
    the data.

    Args:
        rows: Rows without NaN. sequences: Most of them to follow.
        exponents: How many; ``None`` for all of a state up to 128, else 32.

    Reference:
        Engelken, Wolf & Abbott (2023). arXiv:2006.02427, for the settings.
    """
    size = state_size(tape)
    width = min(size, exponents or (size if size <= EXACT_SIZE else FEWER))
    notes = remarks(tape, rows)
    chosen = chosen_rows(tape, rows, sequences, SHORTEST)
    if tape.cuts:
        notes.append("no exponents: the state is changed between steps (masked, normalised)")
        chosen = chosen[:0]
    elif not len(chosen) and len(rows):
        notes.append(
            f"the first 10 + T/10 steps are dropped and the longest sequence has "
            f"{tape.axis.steps}: {SHORTEST} steps are the least, 100 say more"
        )
    own = rows_of(tape, chosen)
    lengths = own.axis.lengths
    transient = 10 + lengths // 10
    growth = torch.zeros(0, 0, dtype=torch.float64)
    if len(chosen):
        growth = _growth(own, width, transient)
    return LyapunovSpectrum(
        exponents=growth.mean(0).numpy(),
        per_sequence=growth.numpy(),
        sequences=chosen.numpy(),
        steps=(lengths - transient).numpy(),
        transient=transient.numpy(),
        state_size=size,
        notes=tuple(notes),
    )


def _growth(tape: Tape, width: int, transient: Tensor) -> Tensor:
    """Return each sequence's mean log growth per direction, descending, ``(n, k)``."""
    start = orthonormal_start(tape.axis.batch, state_size(tape), width, seed=0)

    def before(step: int, product: GradedProduct) -> None:
        ready = transient == step
        if bool(ready.any()):
            product.restart(ready)

    product = pushed_forward(tape, start, before=before)
    mean = product.logs / (tape.axis.lengths - transient)[:, None]
    return mean.sort(dim=1, descending=True).values
