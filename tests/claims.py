"""The claims our tests make about curves over time, each argued once, here."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

TOLERANCE = {
    # The forward runs in float32, the scan back in float64: what is left is the rounding of the
    # states and of the loss gradient, a few 6e-8 a step over at most twenty steps.
    torch.float32: 1e-5,
    # 20 steps × a few 1e-16, with four digits to spare for cancellation in a sum over the batch.
    torch.float64: 1e-10,
}

TAIL = 1e-30
"""Where a reference value is larger, it must be met step by step, not only within its peak."""

SHARE_SUM_TOLERANCE = 1e-12
"""Shares are float64 quotients by construction; only their summation rounds."""


def assert_close_to_curve(got: Any, expected: Any, *, tolerance: float, what: str) -> None:
    """Assert that a curve is met within its peak and, down to `TAIL`, step by step.

    Both NaN patterns must agree. An expected 0 is met by what is small against the peak.
    """
    got, expected = np.asarray(got, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    assert got.shape == expected.shape, f"{what}: shape {got.shape}, expected {expected.shape}"
    missing = np.isnan(expected)
    assert np.array_equal(np.isnan(got), missing), (
        f"{what}: NaN at {np.argwhere(np.isnan(got)).tolist()}, "
        f"expected at {np.argwhere(missing).tolist()}"
    )
    got, expected = got[~missing], expected[~missing]
    if not expected.size:
        return
    error, peak = np.abs(got - expected), np.max(np.abs(expected))
    assert np.max(error) <= tolerance * peak, (
        f"{what}: off by {np.max(error):.3g} at a peak of {peak:.3g}; "
        f"got {got}, expected {expected}"
    )
    tail = np.abs(expected) > TAIL
    relative = error[tail] / np.abs(expected[tail])
    assert np.all(relative <= tolerance), (
        f"{what}: entry {int(np.argmax(relative))} off by {np.max(relative):.3g} of its own size; "
        f"got {got}, expected {expected}"
    )


def assert_close_to_tensor(
    got: Any, expected: Any, *, tolerance: float, what: str, row_axes: int = 1
) -> None:
    """Assert that every vector or matrix of a series is met, relative to its own norm.

    Args:
        got: Measured, `(steps…, …)`.
        expected: Reference, of the same shape.
        tolerance: Allowed ‖difference‖ / ‖expected‖.
        what: Names the quantity in the message.
        row_axes: How many leading axes number the vectors.
    """
    got, expected = np.asarray(got, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    assert got.shape == expected.shape, f"{what}: shape {got.shape}, expected {expected.shape}"
    assert np.array_equal(np.isnan(got), np.isnan(expected)), f"{what}: NaN where none belongs"
    flat_got = np.nan_to_num(got).reshape(*got.shape[:row_axes], -1)
    flat_expected = np.nan_to_num(expected).reshape(*got.shape[:row_axes], -1)
    error = np.linalg.norm(flat_got - flat_expected, axis=-1)
    size = np.linalg.norm(flat_expected, axis=-1)
    assert np.max(error) <= tolerance * np.max(size), (
        f"{what}: off by {np.max(error):.3g} at a peak of {np.max(size):.3g}"
    )
    tail = size > TAIL
    assert np.all(error[tail] <= tolerance * size[tail]), (
        f"{what}: off by {np.max(error[tail] / size[tail]):.3g} of a step's own size"
    )


def assert_geometric_decay(
    norms: Any, factor: float, *, last: float, tolerance: float, what: str = "norms"
) -> None:
    """Assert that a curve ends in `last` and changes by exactly `factor` per step back."""
    back = np.arange(len(norms))[::-1]
    assert_close_to_curve(norms, last * factor**back, tolerance=tolerance, what=what)


def reach_of(profile: Any, level: float) -> int | None:
    """Read the reach off a lag profile: the smallest lag from which it stays below `level`."""
    if not len(profile):
        return None
    not_below = [lag for lag, value in enumerate(profile) if not value < level]
    return not_below[-1] + 1 if not_below else 0


def assert_layer_matches_reference(
    layer: Any, reference: Any, dtype: torch.dtype, *, profile: bool = True
) -> None:
    """Assert that every number of a measured layer is the reference's.

    Args:
        layer: A measured `LayerFlow`.
        reference: A `LayerReference` of `tests.oracles.unrolled`.
        dtype: Of the user's model; it decides the tolerance.
        profile: Compare the lag profile at the probes which the layer says were used.
    """
    tolerance = TOLERANCE[dtype]
    assert set(layer.contributions) == set(reference.terms)
    for part, gradients in reference.parts.items():
        assert_close_to_tensor(
            layer.state_gradients(part),
            gradients,
            tolerance=tolerance,
            what=f"state_gradients({part!r})",
            row_axes=2,
        )
    curves = {
        "per_sample": (layer.per_sample, reference.per_sample),
        "state_gradient_norms": (layer.state_gradient_norms, reference.norms),
    }
    for name, terms in reference.terms.items():
        norms = reference.contribution_norms(name)
        curves[f"contributions[{name!r}]"] = (layer.contributions[name], norms)
        assert_contributions_close_up(layer, name, terms, tolerance)
    if profile:
        expected = reference.lag_profile(layer.lag_probes)
        # How many lags beyond the last measurable one are stored, as NaN, is the record's choice.
        longest = max(np.flatnonzero(~np.isnan(expected)), default=-1) + 1
        got = np.asarray(layer.lag_profile)
        if not len(got):  # right only where no probe whatever has a gradient at its own step
            everywhere = reference.lag_profile(range(layer.steps))
            assert np.all(np.isnan(everywhere)), f"{layer.name} has no lag profile"
        assert np.all(np.isnan(got[longest:])), f"lag_profile beyond lag {longest - 1}: {got}"
        if len(got):
            curves["lag_profile"] = (got[:longest], expected[:longest])
    for what, (got, expected) in curves.items():
        assert_close_to_curve(got, expected, tolerance=tolerance, what=what)
    assert np.asarray(layer.state_gradient_norms).dtype == np.float64


def assert_contributions_close_up(layer: Any, name: str, terms: Any, tolerance: float) -> None:
    """Assert what holds among the contributions of one parameter: matrices, shares, closure."""
    matrices = np.stack([np.asarray(layer.contribution(name, k)) for k in range(len(terms))])
    assert_close_to_tensor(matrices, terms, tolerance=tolerance, what=f"contribution({name!r}, k)")
    flat = terms.reshape(len(terms), -1)
    total = flat.sum(axis=0)
    if not np.any(total):  # 0/0: the definition's NaN
        assert np.all(np.isnan(layer.shares[name]))
        return
    # Compared with the terms' own size: a share's denominator may hide a cancelled sum.
    unit = np.max(np.linalg.norm(flat, axis=1)) / np.linalg.norm(total)
    error = np.abs(np.asarray(layer.shares[name]) - (flat @ total) / (total @ total))
    assert np.max(error) <= tolerance * 4 * max(unit, unit**2), f"shares[{name!r}]"
    assert abs(np.sum(layer.shares[name]) - 1.0) <= SHARE_SUM_TOLERANCE * max(1.0, unit)
    assert layer.closure_error[name] <= tolerance, f"closure_error[{name!r}]"
