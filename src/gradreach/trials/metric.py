"""Which number of a training the trials are ranked by."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from gradreach.errors import GradreachError
from gradreach.records.comparison import DIRECTIONS, Direction

__all__ = ["METRIC_KINDS", "Metric", "MetricError", "MetricKind"]

MetricKind = Literal["loss", "regex", "log", "returned"]
METRIC_KINDS: tuple[MetricKind, ...] = get_args(MetricKind)


class MetricError(GradreachError, ValueError):
    """No number can be had in the way that was asked for."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    r"""Where the number comes from, and whether less of it is better.

    Attributes:
        kind: ``"loss"``: what the script calls backward on. ``"regex"``: the first group of a
            pattern found in the script's output, the last time that it is printed. ``"log"``:
            given to ``gradreach.log(name=value)``. ``"returned"``: by the function.
        pattern: The pattern of ``"regex"``, the name of ``"log"``, the entry of a returned
            mapping; empty for its only or first one.
        direction: ``"minimize"`` or ``"maximize"``.

    Raises:
        MetricError: The pattern is no regular expression, or has no group.

    Example:
        >>> Metric(kind="regex", pattern=r"accuracy (\S+)", direction="maximize").name
        'accuracy'
    """

    kind: MetricKind = "loss"
    pattern: str = ""
    direction: Direction = "minimize"

    def __post_init__(self) -> None:
        if self.kind not in METRIC_KINDS:
            raise MetricError(
                f"Metric(): argument 'kind' must be one of {', '.join(METRIC_KINDS)}; got "
                f"{self.kind!r}"
            )
        if self.direction not in DIRECTIONS:
            raise MetricError(
                f"Metric(): argument 'direction' must be one of {', '.join(DIRECTIONS)}; got "
                f"{self.direction!r}"
            )
        if self.kind == "regex":
            _check_pattern(self.pattern)

    @property
    def name(self) -> str:
        """A name for the reader: that of the pattern's group, or the words before it."""
        if self.kind == "loss":
            return "loss"
        if self.kind == "regex":
            groups = re.compile(self.pattern).groupindex
            before = re.sub(r"\\.", " ", self.pattern).partition("(")[0]
            words = re.findall(r"[A-Za-z][\w-]*", before)
            return next(iter(groups), None) or " ".join(words[-3:]) or "metric"
        return self.pattern or "metric"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return dict(vars(self))

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Undo :meth:`to_dict`."""
        return cls(**plain)


def _check_pattern(pattern: str) -> None:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise MetricError(
            f"the metric's pattern {pattern!r} is no regular expression: {error}"
        ) from error
    if groups < 1:
        raise MetricError(
            f"the metric's pattern {pattern!r} has no group: put the number in brackets, as in "
            r"'loss (\S+)'"
        )
