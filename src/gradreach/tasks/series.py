"""Continue a real time series: sunspots by the year, or carbon dioxide by the week."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gradreach.tasks.real_data import CO2, SUNSPOTS, DataFile
from gradreach.tasks.scores import mean_squared_error
from gradreach.tasks.task import Seed, check_size, seeded

__all__ = ["Series"]

Floats = NDArray[np.float32]
FILES: dict[str, DataFile] = {"sunspots": SUNSPOTS, "co2": CO2}
# Carbon dioxide rises year after year: a window is taken relative to its last value, or every
# held-out window would lie outside of all that training has shown.
RELATIVE = {"co2"}
RIDGE = 1e-3  # of the linear models that answers are compared with; 0.03 moves them by < 10 %


@dataclass(frozen=True, slots=True)
class Series:
    """Answer, after ``steps`` values of a series, the value ``ahead`` steps after the last.

    Values are standardised by the first four fifths of the series, which are for training; the
    answers to the last fifth are held out. The baseline is the best affine answer from the last
    value alone, which for carbon dioxide half a year ahead is no better than a constant: the
    season is told by the past year only. ``linear`` is a linear model of the whole window, and
    the criterion lies half-way between the two, by ratio.

    Args:
        series: ``"sunspots"`` (yearly, 1700 to 2008) or ``"co2"`` (weekly at Mauna Loa, 1958 to
            2001; 59 missing weeks are interpolated, windows relative to their last value).
        steps: Length T of a window.
        ahead: How far ahead the answer lies.

    Raises:
        ValueError: There is no such series, or a size is no whole number that fits into it.
        DataFileError: The data file is missing or changed.

    Reference:
        Sunspot numbers: the oldest series in the literature (Yule 1927). CO₂: Keeling & Whorf
        (2004). Both as in statsmodels 0.15.0.

    Example:
        >>> task = Series("co2", steps=60, ahead=26)
        >>> inputs, targets = task.batch(3, seed=0)
        >>> inputs.shape, targets.shape
        ((3, 60, 1), (3, 1))
        >>> round(task.baseline, 3), round(task.linear, 4), round(task.criterion["mse"], 3)
        (0.107, 0.0032, 0.019)
    """

    series: str = "co2"
    steps: int = 60
    ahead: int = 26

    name: ClassVar[str] = "series"
    input_size: ClassVar[int] = 1
    symbols: ClassVar[bool] = False
    output_size: ClassVar[int] = 1
    classes: ClassVar[bool] = False
    metric: ClassVar[str] = "mse"

    def __post_init__(self) -> None:
        if self.series not in FILES:
            raise ValueError(
                f"Series(): argument 'series' must be one of {', '.join(FILES)}; got "
                f"{self.series!r}: co2 is the longer one"
            )
        check_size(self, "steps", self.steps, 2, "one value is no series")
        check_size(self, "ahead", self.ahead, 1, "0 would be the last value itself")
        count = len(_standardised(self.series))
        if self.steps + self.ahead > count // 5:
            raise ValueError(
                f"Series(): arguments 'steps' and 'ahead' must come to {count // 5} at most, a "
                f"fifth of the series; got {self.steps} + {self.ahead}: choose fewer steps"
            )

    @property
    def variant(self) -> str:
        """Which series, and how far ahead."""
        return f"{self.series}, {self.ahead} ahead; last fifth held out"

    @property
    def needs_lag(self) -> int:
        """A window has no part that is known to matter; all of it may."""
        return self.steps - 1

    @property
    def first_answer(self) -> int:
        """Only the last step is answered."""
        return self.steps - 1

    @property
    def baseline(self) -> float:
        """Error of the best affine answer from the last value, on the held-out part."""
        return _linear_error(self, 1)

    @property
    def linear(self) -> float:
        """Error of a linear model of the whole window, on the held-out part."""
        return _linear_error(self, self.steps)

    @property
    def criterion(self) -> dict[str, float]:
        """Half-way, by ratio, from :attr:`baseline` to :attr:`linear`."""
        return {"mse": math.sqrt(self.baseline * self.linear)}

    def batch(self, n: int, seed: Seed) -> tuple[Floats, Floats]:
        """Return windows ``(B, T, 1)`` of the training part and answers ``(B, 1)``.

        Raises:
            ValueError: ``n`` is below 1, or ``seed`` is negative.
        """
        windows, answers = _windows(self, held_out=False)
        chosen = seeded(self, n, seed).integers(0, len(windows), n)
        return windows[chosen], answers[chosen]

    def held_out(self, seed: Seed) -> tuple[Floats, Floats]:
        """Return all windows whose answer lies in the last fifth; nothing is random about them."""
        return _windows(self, held_out=True)

    def score(self, answers: NDArray[Any], targets: NDArray[Any]) -> dict[str, float]:
        """Return the mean squared error, in variances of the training part."""
        return {"mse": mean_squared_error(answers, targets)}


@cache
def _standardised(series: str) -> NDArray[np.float64]:
    """Return the series without gaps, as mean and variance of its first four fifths are 0 and 1."""
    lines = FILES[series].read().decode("ascii").split()[1:]
    values = np.array([float(line.split(",")[1] or "nan") for line in lines])
    places, known = np.arange(len(values)), ~np.isnan(values)
    values = np.interp(places, places[known], values[known])
    training = values[: _cut(values)]
    standardised: NDArray[np.float64] = (values - training.mean()) / training.std()
    return standardised


def _cut(values: NDArray[np.float64]) -> int:
    return len(values) * 4 // 5


@cache
def _windows(task: Series, *, held_out: bool) -> tuple[Floats, Floats]:
    values = _standardised(task.series)
    cut, reach = _cut(values), task.steps + task.ahead
    # An answer is held out, or trained on; what leads to it may overlap.
    first = cut - reach + 1 if held_out else 0
    last = (len(values) if held_out else cut) - reach + 1
    starts = np.arange(first, last)
    windows = values[starts[:, None] + np.arange(task.steps)]
    answers = values[starts + reach - 1][:, None]
    if task.series in RELATIVE:
        windows, answers = windows - windows[:, -1:], answers - windows[:, -1:]
    found = windows[..., None].astype(np.float32), answers.astype(np.float32)
    for array in found:
        array.flags.writeable = False  # all callers share them
    return found


@cache
def _linear_error(task: Series, newest: int) -> float:
    """Return the held-out error of the linear answer from the newest values of a window."""

    def design(windows: Floats) -> NDArray[np.float64]:
        newest_values = windows[:, -newest:, 0].astype(np.float64)
        return np.concatenate([newest_values, np.ones((len(windows), 1))], 1)

    windows, answers = _windows(task, held_out=False)
    shown = design(windows)
    penalty = RIDGE * len(shown) * np.eye(shown.shape[1])
    weights = np.linalg.solve(shown.T @ shown + penalty, shown.T @ answers)
    windows, answers = _windows(task, held_out=True)
    return mean_squared_error(design(windows) @ weights, answers)
