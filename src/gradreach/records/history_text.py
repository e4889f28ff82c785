"""A watched training in a screenful: how it began, how it stands, and what happened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradreach.display.sparkline import sparkline
from gradreach.records.event import EVENT_KINDS
from gradreach.records.plain import Array

if TYPE_CHECKING:
    from gradreach.records.history import History
    from gradreach.records.sample import LayerSample

Flags = NDArray[np.bool_]

__all__ = ["Line", "broken_steps", "history_text", "lines_of", "number", "reach_of", "reaches"]

WIDTH = 80
NAME, VALUES = 21, 24  # columns of the text
LAYERS = 6  # reaches shown; a deeper model's others are counted
UNREMARKABLE = ("attached", "detached")


@dataclass(frozen=True)
class Line:
    """A quantity over time.

    Attributes:
        name: What it is. values: What was measured of it, oldest first, without gaps.
        log: Whether its curve shows powers. remark: What a number alone does not say.
    """

    name: str
    values: Array
    log: bool = False
    remark: str = ""

    @property
    def span(self) -> str:
        """Return its first and its last value.

        Example:
            >>> Line("loss", np.array([3.0, 2.0, 0.25])).span
            '3 → 0.25'
        """
        return f"{number(self.values[0])} → {number(self.values[-1])}"


def history_text(history: History, width: int = WIDTH) -> str:
    """Return the history as lines of text no wider than ``width``.

    Example:
        >>> from gradreach.records import History
        >>> print(history_text(History.of([{"loss": 4.0}, {"loss": 2.0}, {"loss": 1.0}])))
        3 recorded steps
          loss                 4 → 1                   █▅▁
    """
    return "\n".join([headline(history), *(_drawn(line, width) for line in lines_of(history)),
                      *_events(history, width)])  # fmt: skip


def headline(history: History) -> str:
    """Say how much was recorded, in one line."""
    steps, recorded = history["step"], len(history)
    taken = int(np.nanmax(steps)) + 1 if np.isfinite(steps).any() else recorded
    counted = history.meta.get("steps")
    taken = max(taken, counted) if isinstance(counted, int) else taken
    told = f"{recorded:,} recorded step{'s' if recorded != 1 else ''}"
    if taken > recorded:
        told = f"{taken:,} optimizer steps, {recorded:,} of them recorded"
    seconds = history.meta.get("seconds")
    if isinstance(seconds, int | float):
        told += f", {seconds:,.1f} s"
    if history.samples:
        told += f", {len(history.samples):,} sample{'s' if len(history.samples) > 1 else ''}"
    overhead = history.meta.get("overhead")
    if isinstance(overhead, int | float):
        told += f", {overhead:.1%} overhead"
    return told


def lines_of(history: History) -> list[Line]:
    """Return what there is to show, in the order of the text."""
    broken = broken_steps(history)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = history["update_norm"] / history["weight_norm"]
    loss = history["loss"]
    columns = [
        ("loss", loss, bool(np.isfinite(loss).any()) and bool((loss[np.isfinite(loss)] > 0).all())),
        ("gradient norm", history["gradient_norm"], True),
        ("  after clipping", history["clipped_norm"], True),
        ("update / weight", ratio, True),
        ("learning rate", history["learning_rate"], False),
    ]
    found = []
    for name, column, log in columns:
        values = column[~np.isnan(column) | broken]
        if len(values) and not (name == "  after clipping" and not _clipped(history).any()):
            found.append(Line(name, values, log, _remark(name, history, broken)))
    return [*found, *_reach_lines(history)]


def broken_steps(history: History) -> Flags:
    """Tell the recorded steps whose loss or gradient was not finite, as booleans."""
    counted = history["nonfinite"] > 0
    found: Flags = counted | np.isinf(history["loss"]) | np.isinf(history["gradient_norm"])
    return found


def reaches(history: History) -> dict[str, list[tuple[int, int | None, int]]]:
    """Return for each layer its samples' steps, reaches and numbers of timesteps."""
    found: dict[str, list[tuple[int, int | None, int]]] = {}
    for sample in history.samples:
        for name, layer in sample.layers.items():
            found.setdefault(name, []).append((sample.step, reach_of(layer), len(layer.norms)))
    return found


def reach_of(layer: LayerSample) -> int | None:
    """Return a layer's reach; none where its profile is not finite: a NaN is never below 1 %."""
    return layer.reach if np.isfinite(layer.lag_profile).all() else None


def number(value: float) -> str:
    """Write a number briefly.

    Example:
        >>> number(0.00012345), number(float("nan")), number(12345678.0)
        ('0.000123', 'nan', '1.23e+07')
    """
    return f"{value:.3g}"


def _clipped(history: History) -> Flags:
    """Tell the steps in which clipping made the gradient smaller, by more than rounding."""
    found: Flags = history["clipped_norm"] < 0.999 * history["gradient_norm"]
    return found


def _remark(name: str, history: History, broken: Flags) -> str:
    if name == "loss" and broken.any():
        steps = history["step"][broken]
        return f"not finite: {int(broken.sum()):,}, from {steps[0]:.0f}"
    if name == "  after clipping":
        known = ~np.isnan(history["clipped_norm"]) & ~np.isnan(history["gradient_norm"])
        return f"{_clipped(history).sum() / max(int(known.sum()), 1):.0%} of the steps"
    return ""


def _reach_lines(history: History) -> Iterator[Line]:
    told = reaches(history)
    for name, seen in list(told.items())[:LAYERS]:
        values = np.array([np.nan if reach is None else reach for _, reach, _ in seen], np.float64)
        values = values[~np.isnan(values)]
        if len(values):
            yield Line(f"reach {name}", values, remark=f"of {seen[-1][2]} timesteps")


def _drawn(line: Line, width: int) -> str:
    name = line.name if len(line.name) < NAME else f"…{line.name[2 - NAME :]}"
    head = f"  {name:{NAME}}{line.span:{VALUES}}"
    remark = f"  {line.remark}" if line.remark else ""
    room = max(4, min(32, width - len(head) - len(remark)))
    return (head + sparkline(_level(line.values), width=room, log=line.log) + remark)[
        :width
    ].rstrip()


def _level(values: Array) -> Array:
    """Return a curve without the rounding of a clipped norm, which would fill its whole height."""
    finite = values[np.isfinite(values)]
    if len(finite) and np.ptp(finite) <= 1e-3 * np.abs(finite).max():
        return np.where(np.isfinite(values), finite[0], values)
    return values


def _events(history: History, width: int) -> Iterator[str]:
    counts = {kind: sum(event.kind == kind for event in history.events) for kind in EVENT_KINDS}
    told = ", ".join(
        f"{count} × {kind}" for kind, count in counts.items() if count and kind not in UNREMARKABLE
    )
    if told:
        first = next(event for event in history.events if event.kind not in UNREMARKABLE)
        for text in (f"  events: {told}", f"  first: {first}"):
            line = " ".join(text.splitlines())
            yield line if len(line) <= width else line[: width - 1] + "…"
