"""Estimates what Jacobians and exponents cost before they are computed."""

from __future__ import annotations

from gradreach.flow.along_data import CHUNK, EXACT_SIZE, state_size
from gradreach.flow.jacobian import MOST_STEPS, WIDTH
from gradreach.flow.lyapunov import FEWER
from gradreach.flow.sensitivity import ALL_ENTRIES
from gradreach.kernels.tape import Tape
from gradreach.records import JacobianCost

__all__ = ["jacobian_cost"]

SEQUENCES, TANGENTS = 4, 16  # the defaults of what is estimated

# Operations a second of one core, measured (docs/concepts/jacobians.md): LAPACK on matrices of
# this size is far from the machine's peak.
PRODUCTS, QR, SVD = 4e9, 1.5e9, 2e9
STEP = 2e-4  # seconds a step beside the arithmetic


def jacobian_cost(tape: Tape) -> JacobianCost:
    """Return estimates for the defaults of ``jacobian``, ``lyapunov`` and the others."""
    size, entries = state_size(tape), tape.weights.recurrent.numel()
    exact = size <= EXACT_SIZE
    count = min(SEQUENCES, tape.axis.batch)
    steps = count * tape.axis.steps
    single = count * min(tape.axis.steps, MOST_STEPS)

    def swept(width: int) -> float:
        """Seconds to run a block of directions through all steps."""
        product = 2.0 * entries * width / PRODUCTS
        factorised = 4.0 * size * width**2 / QR
        return tape.axis.steps * STEP + steps * (product + factorised)

    if exact:
        jacobian = single * 3.0 * size**3 / SVD + swept(size)
    else:
        jacobian = single * 160.0 * entries / PRODUCTS + 3 * 2 * swept(WIDTH)
    tangents = entries if entries <= ALL_ENTRIES else TANGENTS
    drive = steps * 6.0 * entries * tangents / PRODUCTS
    activations = tape.activations.values()
    states = (tape.inputs, tape.hidden, tape.cell, *activations)
    kept = sum(part.numel() * part.element_size() for part in states if part is not None)
    width = size if exact else FEWER
    return JacobianCost(
        jacobian_seconds=jacobian,
        lyapunov_seconds=swept(width),
        sensitivity_seconds=tape.axis.steps * STEP + drive,
        conditions_seconds=30.0 * tape.hidden_size**3 / SVD + swept(1),
        working_bytes=8 * count * (CHUNK * 6 * size + 4 * size * width) + 8 * entries * tangents,
        kept_bytes=kept + sum(w.numel() * w.element_size() for _, w in tape.weights.named()),
        method="exact" if exact else "block Krylov",
    )
