"""Sends rows to the loggers a user already has, whatever their shape."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gradreach.monitor.loggers import as_logger
from gradreach.records.event import Event
from gradreach.records.line_probe import LineProbe
from gradreach.records.sample import Sample

__all__ = ["LoggerSink"]

LOGGED = (
    "gradient_norm", "clipped_norm", "update_norm", "weight_norm", "update_cosine", "nonfinite",
    "learning_rate",
)  # fmt: skip
"""What a row sends, beside the reach of the last sample: the loss a user logs already."""


class LoggerSink:
    """One logger as a sink: at most eight numbers a row, under ``gradreach/``.

    Args:
        logger: Whatever :func:`gradreach.monitor.loggers.as_logger` takes.

    Raises:
        RuntimeError: By ``row``, for whoever hands the rows out: the logger has failed for good.

    Example:
        >>> sink = LoggerSink(lambda numbers, step: print(step, numbers))
        >>> sink.row({"step": 7.0, "gradient_norm": 0.5, "update_norm": float("nan")})
        7 {'gradreach/gradient_norm': 0.5}
    """

    def __init__(self, logger: Any) -> None:
        self.name = f"the logger {getattr(logger, '__name__', type(logger).__name__)}"
        self._log = as_logger(logger)
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
        if self._log.off:
            raise RuntimeError((self._log.trouble or "").strip().splitlines()[-1])

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
