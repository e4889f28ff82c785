"""Where the records of a watched training go while it runs."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from gradreach.records.event import Event
from gradreach.records.history import COLUMNS
from gradreach.records.line_probe import LineProbe
from gradreach.records.plain import Array
from gradreach.records.sample import Sample

__all__ = ["FanOut", "MemorySink", "Sink"]


class Sink(Protocol):
    """Takes records as they come; the journal of a run folder is one, too."""

    def row(self, row: Mapping[str, float]) -> None:
        """Take the numbers of one optimizer step."""

    def sample(self, sample: Sample) -> None:
        """Take one sampled pass."""

    def probe(self, probe: LineProbe) -> None:
        """Take the losses along one update."""

    def event(self, event: Event) -> None:
        """Take something that happened."""

    def close(self, meta: Mapping[str, Any]) -> None:
        """Nothing more will come."""


class MemorySink:
    """Keeps everything, rows as plain columns: a million of them take 150 MB.

    Example:
        >>> sink = MemorySink()
        >>> sink.row({"step": 0.0, "loss": 2.0})
        >>> sink.row({"step": 1.0})
        >>> sink.columns()["loss"]
        array([ 2., nan])
    """

    def __init__(self) -> None:
        self._columns = {name: array("d") for name in COLUMNS}
        self.samples: list[Sample] = []
        self.probes: list[LineProbe] = []
        self.events: list[Event] = []

    def row(self, row: Mapping[str, float]) -> None:
        """Take the numbers of one optimizer step."""
        for name, column in self._columns.items():
            column.append(row.get(name, float("nan")))

    def sample(self, sample: Sample) -> None:
        """Take one sampled pass."""
        self.samples.append(sample)

    def probe(self, probe: LineProbe) -> None:
        """Take the losses along one update."""
        self.probes.append(probe)

    def event(self, event: Event) -> None:
        """Take something that happened."""
        self.events.append(event)

    def close(self, meta: Mapping[str, Any]) -> None:
        """Nothing more will come; there is nothing to do."""

    def columns(self) -> dict[str, Array]:
        """Return a copy of the rows so far."""
        shortest = min(map(len, self._columns.values()))  # a row may have failed half way
        return {
            name: np.array(column[:shortest], dtype=np.float64)
            for name, column in self._columns.items()
        }


class FanOut:
    """Hands everything to the memory and to others; one of these that fails gets nothing more.

    Args:
        on_failure: Called with a sentence when a sink has failed: a full disk, a logger whose
            server is gone. Training and the other sinks go on.
    """

    def __init__(
        self, memory: MemorySink, others: Sequence[Sink], on_failure: Callable[[str], None]
    ) -> None:
        self._memory, self._sinks, self._on_failure = memory, list(others), on_failure

    def row(self, row: Mapping[str, float]) -> None:
        """Take the numbers of one optimizer step."""
        self._each("row", row)

    def sample(self, sample: Sample) -> None:
        """Take one sampled pass."""
        self._each("sample", sample)

    def probe(self, probe: LineProbe) -> None:
        """Take the losses along one update."""
        self._each("probe", probe)

    def event(self, event: Event) -> None:
        """Take something that happened."""
        self._each("event", event)

    def close(self, meta: Mapping[str, Any]) -> None:
        """Nothing more will come."""
        self._each("close", meta)

    def _each(self, method: str, record: Any) -> None:
        getattr(self._memory, method)(record)  # if that fails, we have failed
        for sink in list(self._sinks):
            try:
                getattr(sink, method)(record)
            except Exception as error:  # noqa: BLE001  not ours: a disk, a server, a user's logger
                self._sinks.remove(sink)
                name = getattr(sink, "name", type(sink).__name__)
                self._on_failure(f"{name} failed and gets nothing more: {_words(error)}")


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
