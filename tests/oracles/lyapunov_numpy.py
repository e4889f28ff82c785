"""Lyapunov exponents of h_t = tanh(W h_{t-1} + w x_t), in NumPy and in mpmath alone.

An implementation of its own, from the definition: it runs its own trajectory and knows neither
torch nor gradreach.
"""

from __future__ import annotations

import mpmath
import numpy as np


def numpy_spectrum(
    weight: np.ndarray,
    start: np.ndarray,
    steps: int,
    drop: int,
    drive: np.ndarray | None = None,
    seed: int = 5,
) -> np.ndarray:
    """All exponents by QR at every step, nats per step, descending.

    Args:
        weight: `(N, N)`. start: `(N,)`.
        steps: In all. drop: of them, before the average begins.
        drive: `(steps, N)` added to the pre-activation, or None.
        seed: Of the first orthonormal frame.
    """
    size = len(weight)
    h = np.array(start, dtype=np.float64)
    frame = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]
    total = np.zeros(size)
    for t in range(steps):
        a = weight @ h
        if drive is not None:
            a = a + drive[t]
        h = np.tanh(a)
        frame, upper = np.linalg.qr((weight @ frame) / np.cosh(a)[:, None] ** 2)
        if t >= drop:
            total += np.log(np.abs(np.diag(upper)))
    return np.sort(total / (steps - drop))[::-1]


def mpmath_log_singular_values(
    weight: np.ndarray, states: np.ndarray, digits: int = 300
) -> tuple[np.ndarray, float]:
    """Natural log singular values of the product of all Jacobians, and its log|det|.

    The product is written out in so many digits that nothing of it is lost.

    Args:
        weight: `(N, N)`. states: `(T, N)`, the states that *enter* each step.
        digits: To compute with.
    """
    with mpmath.workdps(digits):
        matrix = mpmath.matrix(weight.tolist())
        product = mpmath.eye(len(weight))
        log_det = mpmath.mpf(0)
        for h in states:
            a = matrix * mpmath.matrix(h.tolist())
            slopes = [mpmath.sech(value) ** 2 for value in a]
            product = mpmath.diag(slopes) * matrix * product
            log_det += sum(mpmath.log(slope) for slope in slopes)
        log_det += len(states) * mpmath.log(abs(mpmath.det(matrix)))
        values = mpmath.svd_r(product, compute_uv=False)
        logs = sorted((float(mpmath.log(value)) for value in values), reverse=True)
        return np.array(logs), float(log_det)
