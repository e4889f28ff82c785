"""What a watched training did over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from gradreach.records.event import Event
from gradreach.records.line_probe import LineProbe
from gradreach.records.plain import Array, check_schema, from_plain, to_plain
from gradreach.records.sample import Sample

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CLIP_ORDERS", "COLUMNS", "History"]

SCHEMA_VERSION = 1

COLUMNS: Mapping[str, str] = {
    "step": "number of the optimizer step, from 0",
    "passes": "backward passes whose gradients it used (gradient accumulation)",
    "seconds": "wall time since the watch began, at the end of the step",
    "loss": "mean over its passes of the value backward was called on, unscaled",
    "gradient_norm": "‖g‖ before any clipping, unscaled, averaged over ranks",
    "clipped_norm": "‖g‖ as the optimizer got it",
    "update_norm": "‖Δw‖ of the step",
    "weight_norm": "‖w‖ before it",
    "distance": "‖w after it − w when the watch began‖",
    "update_cosine": "cosine of Δw and the Δw of the step before",
    "gradient_cosine": "cosine of g (as the optimizer got it) and the g of the step before",
    "descent_cosine": "cosine of −g and Δw: 1 for plain gradient descent",
    "learning_rate": "the largest among the parameter groups",
    "nonfinite": "number of non-finite entries in the gradient",
    "clip_calls": "calls of torch's clipping functions in this step",
    "clip_threshold": "what the last of them was given; NaN where there was none",
    "clip_seen": "the norm (or largest entry) that the last of them saw",
    "clip_order": "its place: see CLIP_ORDERS",
    "taken": "1, or 0 where the step was skipped (GradScaler) or blocked (guard)",
    # The last, as journals of before do not have it.
    "local_gradient_norm": "‖g‖ of this process before ranks are averaged; NaN where it is alone",
}
"""The columns of a history, one row a recorded optimizer step. Norms are over the watched
parameters together; NaN stands for what was not measured."""

CLIP_ORDERS: Mapping[int, str] = {
    0: "none",
    1: "after backward",  # as it should be
    2: "before backward",  # there was no gradient of this step yet
    3: "before unscale",  # the gradient was still multiplied by GradScaler's factor
}


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class History:
    """The record of a watched training: one row a step, and samples of the gradient flow.

    Attributes:
        rows: Columns by name (:data:`COLUMNS`), each ``(N,)`` float64.
        samples: Sampled passes, oldest first.
        probes: The loss along some of the updates.
        events: What happened once.
        needs_lag: How far back the task must look, if the user knows.
        meta: Versions, cost preset, seconds, measured overhead, as plain data.

    Example:
        >>> history = History(rows={"step": np.arange(3.0), "loss": np.array([3.0, 2.0, 1.0])})
        >>> len(history), history["loss"][-1].item(), history["update_norm"]
        (3, 1.0, array([nan, nan, nan]))
    """

    rows: Mapping[str, Array]
    samples: tuple[Sample, ...] = ()
    probes: tuple[LineProbe, ...] = ()
    events: tuple[Event, ...] = ()
    needs_lag: int | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = self.rows.keys() - COLUMNS.keys()
        if unknown:
            raise ValueError(
                f"History(): argument 'rows' has unknown columns {', '.join(sorted(unknown))}; "
                f"there is {', '.join(COLUMNS)}"
            )
        if len({len(column) for column in self.rows.values()}) > 1:
            raise ValueError("History(): argument 'rows' has columns of different length")

    def __len__(self) -> int:
        return len(next(iter(self.rows.values()), ()))

    def __getitem__(self, column: str) -> Array:
        """Return a column; NaN throughout where it was not recorded."""
        if column not in COLUMNS:
            raise KeyError(f"no column {column!r}; there is {', '.join(COLUMNS)}")
        found = self.rows.get(column)
        return np.full(len(self), np.nan) if found is None else found

    def __str__(self) -> str:
        from gradreach.records.history_text import history_text

        return history_text(self)

    def __repr__(self) -> str:
        return f"<History of {len(self)} steps, {len(self.samples)} samples>"

    def plot(self, *, layer: str | None = None) -> Figure:
        """Return a figure: loss, norms before and after clipping, learning rate, heat map, reach.

        It is made and returned, not shown: ``figure.savefig("training.pdf")``.

        Args:
            layer: Whose heat map to draw; by default that of the first sampled layer.

        Raises:
            MissingExtraError: matplotlib is not installed.
            ValueError: There is nothing to draw, or no sample of that layer.
        """
        from gradreach.records.history_figure import history_figure

        return history_figure(self, layer, "`history.plot()`")

    def _repr_html_(self) -> str:
        from gradreach.records.history_page import history_fragment

        return history_fragment(self)

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, float]], **rest: Any) -> Self:
        """Make a history of rows; a row need not have every column."""
        columns = {
            name: np.array([row.get(name, float("nan")) for row in rows], dtype=np.float64)
            for name in COLUMNS
        }
        return cls(rows=columns, **rest)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain data."""
        return {
            "record": "History",
            "schema_version": SCHEMA_VERSION,
            "rows": {name: to_plain(column) for name, column in self.rows.items()},
            "samples": [sample.to_dict() for sample in self.samples],
            "probes": [probe.to_dict() for probe in self.probes],
            "events": [event.to_dict() for event in self.events],
            "needs_lag": self.needs_lag,
            "meta": dict(self.meta),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Undo :meth:`to_dict`.

        Raises:
            SchemaError: The data is of another record or schema version.
        """
        check_schema(plain, "History", SCHEMA_VERSION)
        return cls(
            rows={name: from_plain(column) for name, column in plain["rows"].items()},
            samples=tuple(Sample.from_dict(sample) for sample in plain["samples"]),
            probes=tuple(LineProbe.from_dict(probe) for probe in plain["probes"]),
            events=tuple(Event.from_dict(event) for event in plain["events"]),
            needs_lag=plain["needs_lag"],
            meta=dict(plain["meta"]),
        )
