"""Real series: what is held out, and what answers are compared with."""

from __future__ import annotations

import numpy as np
import pytest

from gradreach.tasks.real_data import CO2, SUNSPOTS
from gradreach.tasks.series import Series
from gradreach.tasks.task import held_out


def values(name: str) -> np.ndarray:
    lines = {"co2": CO2, "sunspots": SUNSPOTS}[name].read().decode().split()[1:]
    return np.array([float(line.split(",")[1] or "nan") for line in lines])


def test_files_are_the_published_ones() -> None:
    sunspots, co2 = values("sunspots"), values("co2")

    assert len(sunspots) == 309 and sunspots[:3].tolist() == [5, 11, 16]
    assert len(co2) == 2284 and np.isnan(co2).sum() == 59 and co2[0] == 316.1


@pytest.mark.parametrize(("name", "steps", "ahead"), [("sunspots", 30, 1), ("co2", 60, 26)])
def test_no_answer_of_the_held_out_part_is_trained_on(name: str, steps: int, ahead: int) -> None:
    task = Series(name, steps, ahead)
    raw = values(name)
    cut = len(raw) * 4 // 5
    _, answers = held_out(task)
    inputs, targets = task.batch(4000, 0)

    assert len(answers) == len(raw) - cut
    distinct = np.unique(np.concatenate([inputs[:, :, 0], targets], 1), axis=0)
    assert len(distinct) <= cut - steps - ahead + 1


def test_windows_of_sunspots_are_the_series_and_its_continuation() -> None:
    task = Series("sunspots", 30, 5)
    raw = values("sunspots")
    cut = len(raw) * 4 // 5
    inputs, targets = held_out(task)

    back = inputs[..., 0] * raw[:cut].std() + raw[:cut].mean()

    np.testing.assert_allclose(back[0], raw[cut - 34 : cut - 4], rtol=1e-4, atol=1e-3)
    last = targets[-1, 0] * raw[:cut].std() + raw[:cut].mean()
    assert last == pytest.approx(raw[-1], abs=1e-3)


def test_windows_of_carbon_dioxide_end_at_zero() -> None:
    inputs, targets = Series("co2").batch(20, 0)

    assert (inputs[:, -1] == 0).all() and targets.std() > 0.1


@pytest.mark.parametrize(("name", "steps", "ahead"), [("sunspots", 30, 1), ("co2", 60, 26)])
def test_baseline_is_the_least_squares_answer_from_the_last_value(
    name: str, steps: int, ahead: int
) -> None:
    task = Series(name, steps, ahead)
    cut = len(values(name)) * 4 // 5
    pairs = [task.batch(1, seed) for seed in range(3000)]
    shown = np.array([pair[0][0, -1, 0] for pair in pairs])
    answers = np.array([pair[1][0, 0] for pair in pairs])
    assert cut > 200
    slope, offset = np.polyfit(shown, answers, 1) if shown.std() else (0.0, answers.mean())
    inputs, targets = held_out(task)

    found = task.score(slope * inputs[:, -1] + offset, targets)["mse"]

    # 3,000 random draws of the windows instead of each one once: two or three per cent apart
    assert task.baseline == pytest.approx(found, rel=0.05)
    assert task.linear < task.criterion["mse"] < task.baseline


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"series": "gold"}, "'series' must be one of sunspots, co2; got 'gold'"),
        ({"steps": 1}, "'steps' must be a whole number of at least 2"),
        ({"ahead": 0}, "'ahead' must be a whole number of at least 1"),
        ({"series": "sunspots", "steps": 60, "ahead": 2}, "must come to 61 at most"),
    ],
)
def test_arguments_that_do_not_fit_are_named(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Series(**wrong)  # type: ignore[arg-type]
