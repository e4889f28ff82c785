"""Rows become rarer until they fit, and never vanish."""

from __future__ import annotations

import pytest

from gradreach.monitor.row_pace import MOST, RowPace


def simulated(pace: RowPace, steps: int, own: float, row: float, idle: float) -> tuple[int, float]:
    """Return how many rows there were, and their share of the user's own time."""
    spent = elapsed = 0.0
    rows = 0
    for step in range(steps):
        due = pace.due(step)
        rows += due
        cost = idle + row * due
        spent, elapsed = spent + cost, elapsed + own + cost
        pace.stepped(due, spent, elapsed)
    return rows, rows * row / (steps * own)


@pytest.mark.parametrize("row", [1e-5, 1e-4, 1e-3])
def test_rows_take_no_more_than_their_share(row: float) -> None:
    _, share = simulated(RowPace(0.02, dense=8), 4000, own=0.01, row=row, idle=5e-4)

    assert share < 0.02 * 1.1


def test_costly_steps_without_rows_do_not_make_rows_rarer() -> None:
    rows, _ = simulated(RowPace(0.02, dense=8), 1000, own=0.01, row=1e-4, idle=5e-3)

    assert rows > 900  # all but those by which the cost of a step without one is learned


def test_however_short_the_steps_some_rows_stay() -> None:
    rows, _ = simulated(RowPace(0.002), 10_000, own=1e-5, row=1e-2, idle=0.0)

    assert rows >= 10_000 / MOST * 0.9


def test_without_a_share_every_step_has_a_row() -> None:
    rows, _ = simulated(RowPace(None), 100, own=1e-5, row=1.0, idle=0.0)

    assert rows == 100


def test_costly_first_step_without_a_row_does_not_make_rows_look_free():
    """The step in which everything is met has no row yet, and costs more than any row."""
    pace, spent, elapsed = RowPace(share=0.01), 0.0, 0.0
    for step in range(60):
        recorded = step > 0 and pace.due(step)
        seconds = 0.02 if step == 0 else 0.001 if recorded else 0.0001
        spent, elapsed = spent + seconds, elapsed + 0.01 + seconds
        pace.stepped(recorded, spent, elapsed)

    assert pace.stride >= 8  # a row of 0.9 ms, one of 9 steps, is 1 % of 10 ms a step
