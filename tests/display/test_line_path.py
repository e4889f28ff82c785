"""A curve written by its steps is, to the tenth, the curve that was meant."""

from __future__ import annotations

import numpy as np
from tests.display.curves import curves_in

from gradreach.display.line_path import line_path


def test_no_error_adds_up_along_a_curve():
    x = np.linspace(52.0, 550.0, 4001)
    y = 85.0 + 57.0 * np.sin(x) * np.random.default_rng(0).uniform(size=len(x))

    (curve,) = curves_in(line_path(zip(x, y, strict=True), colour="red", width=2))

    meant = np.stack([x, y], axis=1)
    assert np.abs(np.array(curve) - meant).max() <= 0.05 + 1e-9  # half a tenth, and rounding
    assert curve[-1][0] == 550.0


def test_line_of_one_point_and_steps_of_zero_are_well_formed():
    assert ' d="M10 20" ' in line_path([(1, 2)], colour="red", width=1)
    assert ' d="M10 20l0 0 0-5 0 5" ' in line_path(
        [(1, 2), (1, 2), (1, 1.5), (1, 2)], colour="red", width=1
    )
