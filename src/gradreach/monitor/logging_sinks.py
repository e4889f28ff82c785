"""Sends rows to the loggers a user already has, whatever their shape."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from gradreach.records.event import Event
from gradreach.records.line_probe import LineProbe
from gradreach.records.sample import Sample

__all__ = ["LoggerSink", "log_function"]

LOGGED = (
    "gradient_norm", "clipped_norm", "update_norm", "weight_norm", "update_cosine", "nonfinite",
    "learning_rate",
)  # fmt: skip
"""What a row sends, beside the reach of the last sample: the loss a user logs already."""

Log = Callable[[dict[str, float], int], object]


def log_function(logger: Any) -> Log:
    """Return how to log through an object.

    Taken are any callable ``(numbers, step)`` and objects with ``log(numbers, step)`` (W&B,
    trackio), ``log_metrics(numbers, step)`` (MLflow, Lightning's loggers) or ``add_scalar(name,
    value, step)`` (TensorBoard's writer).

    Raises:
        TypeError: It is none of these.

    Example:
        >>> log_function(lambda numbers, step: print(step, numbers))({"loss": 1.0}, 3)
        3 {'loss': 1.0}
    """
    scalar = getattr(logger, "add_scalar", None)
    if callable(scalar):
        return lambda numbers, step: [scalar(name, each, step) for name, each in numbers.items()]
    named = getattr(logger, "log", None) or getattr(logger, "log_metrics", None)
    if callable(named):
        return lambda numbers, step: named(numbers, step=step)
    if callable(logger):
        found: Log = logger
        return found
    raise TypeError(
        f"watch(): argument 'loggers' has a {type(logger).__name__}, which is no callable and has "
        "no log, log_metrics or add_scalar: give a function log(numbers, step)"
    )


class LoggerSink:
    """One logger as a sink: at most eight numbers a row, under ``gradreach/``.

    Example:
        >>> sink = LoggerSink(lambda numbers, step: print(step, numbers))
        >>> sink.row({"step": 7.0, "gradient_norm": 0.5, "update_norm": float("nan")})
        7 {'gradreach/gradient_norm': 0.5}
    """

    def __init__(self, logger: Any) -> None:
        self.name = f"the logger {getattr(logger, '__name__', type(logger).__name__)}"
        self._log = log_function(logger)
        self._reach: float | None = None

    def row(self, row: Mapping[str, float]) -> None:
        """Log what was measured of a row."""
        numbers = {
            f"gradreach/{name}": row[name] for name in LOGGED if not math.isnan(_of(row, name))
        }
        if self._reach is not None:
            numbers["gradreach/reach"], self._reach = self._reach, None
        if numbers:
            self._log(numbers, int(row["step"]))

    def sample(self, sample: Sample) -> None:
        """Keep the shortest reach for the next row: loggers want steps that only grow."""
        found = [layer.reach for layer in sample.layers.values() if layer.reach is not None]
        if found:
            self._reach = float(min(found))

    def probe(self, probe: LineProbe) -> None:
        """Nothing: it is no curve over steps."""

    def event(self, event: Event) -> None:
        """Nothing: loggers take numbers."""

    def close(self, meta: Mapping[str, Any]) -> None:
        """Nothing: the logger is the user's to close."""


def _of(row: Mapping[str, float], name: str) -> float:
    return row.get(name, float("nan"))
