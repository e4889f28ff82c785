"""What a page that has seen a part of a run is told: all of it, or only what is new."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradreach.records import Event, Sample
from gradreach.records.history import COLUMNS
from gradreach.records.history_text import reach_of
from gradreach.records.plain import Array
from gradreach.records.sighting import Sighting
from gradreach.report.charts import MOST_POINTS, chart, heat_row, told_values
from gradreach.report.findings import Found, found_sentence, groups
from gradreach.report.html import gravest, group_view

__all__ = ["Known", "Position", "story"]

NAMES = tuple(COLUMNS)
MAP_COLUMNS, MAP_ROWS, MAPS = 128, 100, 4
CHARTS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "loss": ("Loss of each step", ("loss",)),
    "gradient": ("Size of the gradient", ("before clipping", "as the optimizer got it")),
    "ratio": ("Size of the update by that of the weights", ("update / weights",)),
    "rate": ("Learning rate", ("learning rate",)),
}


@dataclass
class Known:
    """What was read of a run.

    Attributes:
        epoch: Rises where the run was begun anew. count: rows so far.
        closed: Whether the journal says that it ended. changed: when something last came.
        sample_count, event_count: of all that came, also of those no longer kept.
    """

    epoch: int = 0
    state: str = "waiting"
    trouble: str = ""
    rows: Array = field(default_factory=lambda: np.zeros((1024, len(NAMES))))
    count: int = 0
    samples: list[Sample] = field(default_factory=list)
    sample_count: int = 0
    events: list[Event] = field(default_factory=list)
    event_count: int = 0
    sightings: list[Sighting] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)
    closed: bool = False
    changed: float = field(default_factory=time.time)

    def mark(self) -> tuple[object, ...]:
        """Return what differs as soon as a page would show something else."""
        return (
            self.epoch, self.count, self.sample_count, self.event_count, self.state, self.trouble,
            tuple((each.finding.code, each.when) for each in self.sightings),
        )  # fmt: skip

    def add_rows(self, rows: Array) -> None:
        """Keep more rows; room for them grows by halves, so that adding stays cheap."""
        needed = self.count + len(rows)
        if needed > len(self.rows):
            room = np.zeros((max(needed, len(self.rows) * 3 // 2), len(NAMES)))
            room[: self.count] = self.rows[: self.count]
            self.rows = room
        self.rows[self.count : needed] = rows
        self.count = needed
        if len(rows):
            self.changed, self.closed = time.time(), False

    def add_sample(self, sample: Sample, most: int) -> None:
        """Keep a sample; of too many every second goes, the first and the latest stay."""
        self.samples.append(sample)
        self.sample_count += 1
        self.changed = time.time()
        if len(self.samples) > most:
            self.samples = [*self.samples[:-1:2], self.samples[-1]]

    def column(self, name: str, start: int = 0) -> Array:
        """Return a column from a row on."""
        return self.rows[start : self.count, NAMES.index(name)]


@dataclass(frozen=True)
class Position:
    """How much of a run a page has: what stands behind it is sent next.

    Example:
        >>> Position.read(str(Position(epoch=0, rows=120, samples=3, layers="x")))
        Position(epoch=0, rows=120, samples=3, layers='x')
    """

    epoch: int
    rows: int
    samples: int
    layers: str = ""

    def __str__(self) -> str:
        return f"{self.epoch}.{self.rows}.{self.samples}.{self.layers}"

    @classmethod
    def read(cls, text: str) -> Position | None:
        """Undo ``str``; ``None`` where it is something else."""
        parts = text.split(".")
        if len(parts) != 4 or not all(part.isdecimal() and len(part) < 16 for part in parts[:3]):
            return None
        return cls(int(parts[0]), int(parts[1]), int(parts[2]), parts[3])


def story(
    id_: str, name: str, known: Known, position: Position | None
) -> tuple[dict[str, Any], Position]:
    """Return what a page at ``position`` lacks, and where it then is.

    With ``"whole"`` the page forgets what it had. Curves are thinned to at most 2,000 points
    each, every peak and every NaN among them.
    """
    layers = _layer_names(known)
    now = Position(known.epoch, known.count, known.sample_count, f"{len(layers)}")
    whole = (
        position is None
        or position.epoch != now.epoch
        or position.rows > now.rows
        or position.samples > now.samples
        or position.layers != now.layers
    )
    start = 0 if whole or position is None else position.rows
    fresh = known.sample_count - (0 if whole or position is None else position.samples)
    samples = known.samples[max(len(known.samples) - fresh, 0) :] if fresh else []
    steps = known.column("step", start)
    found = [Found(each.finding, each.when) for each in known.sightings]
    told = {
        "id": id_,
        "name": name,
        "whole": whole,
        "state": known.state,
        "trouble": known.trouble,
        "seconds_since": round(max(time.time() - known.changed, 0.0), 1),
        "rows": known.count,
        "step": int(steps[-1]) if len(steps) and math.isfinite(steps[-1]) else None,
        "verdict": found_sentence(found) if known.samples or found else "Nothing measured yet.",
        "severity": gravest(found),
        "findings": [group_view(group) for group in groups(found)],
        "events": [str(event) for event in known.events[-12:]],
        "charts": _charts(known, start) | _reaches(known, samples, layers),
        "maps": _maps(samples, layers),
        "profiles": _profiles(known, layers),
    }
    return told, now


def _layer_names(known: Known) -> list[str]:
    return list(dict.fromkeys(name for sample in known.samples for name in sample.layers))[:MAPS]


def _charts(known: Known, start: int) -> dict[str, Any]:
    """Return the curves from a row on."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = known.column("update_norm", start) / known.column("weight_norm", start)
    columns = {
        "loss": (known.column("loss", start),),
        "gradient": (known.column("gradient_norm", start), known.column("clipped_norm", start)),
        "ratio": (ratio,),
        "rate": (known.column("learning_rate", start),),
    }
    loss, norm = columns["loss"][0], columns["gradient"][0]
    broken: NDArray[np.bool_] = (
        (known.column("nonfinite", start) > 0) | np.isinf(loss) | np.isinf(norm)
    )
    steps = known.column("step", start)
    if np.isnan(steps).any():
        steps = np.arange(start, known.count, dtype=np.float64)
    return {
        key: chart(
            title,
            steps,
            dict(zip(names, columns[key], strict=True)),
            broken & (key != "rate"),
            most=MOST_POINTS,
        )
        for key, (title, names) in CHARTS.items()
    }


def _reaches(known: Known, samples: list[Sample], layers: list[str]) -> dict[str, Any]:
    """Return how far back the gradient of each layer reached, in each sample."""
    if not layers:
        return {}

    def reach(sample: Sample, name: str) -> float:
        found = reach_of(sample.layers[name]) if name in sample.layers else None
        return math.nan if found is None else float(found)

    none = np.zeros(len(samples), bool)
    return {
        "reach": {
            "title": "Reach: timesteps until less than 1 % of the gradient is left",
            "x": "step",
            "log": False,
            "steps": [sample.step for sample in samples],
            "series": [
                {
                    "name": name,
                    "values": told_values(
                        np.array([reach(sample, name) for sample in samples], np.float64), none
                    ),
                }
                for name in layers
            ],
        }
    }


def _maps(samples: list[Sample], layers: list[str]) -> dict[str, Any]:
    """Return new rows of each layer's heat map; 128 cells a row, or the page would be slow."""
    maps: dict[str, Any] = {}
    for name in layers:
        own = [sample for sample in samples if name in sample.layers][-MAP_ROWS:]
        longest = max((len(sample.layers[name].norms) for sample in own), default=1)
        bundle = max(1, math.ceil(longest / MAP_COLUMNS))
        maps[name] = {
            "title": f"Size of the state gradient of {name}, by training step and timestep",
            "kind": own[-1].layers[name].kind if own else "",
            "rows": [heat_row(sample.layers[name].norms, bundle) for sample in own],
            "labels": [sample.step for sample in own],
            "bundle": bundle,
        }
    return maps


def _profiles(known: Known, layers: list[str]) -> dict[str, Any]:
    """Return each layer's latest lag profile with its reach."""
    profiles: dict[str, Any] = {}
    for name in layers:
        sample = next(each for each in reversed(known.samples) if name in each.layers)
        layer = sample.layers[name]
        count = len(layer.lag_profile)
        lags = np.arange(float(count))
        drawn = chart(
            f"What is left of the gradient of {name}, by timesteps back",
            lags, {"left": layer.lag_profile}, np.ones(count, bool), most=512, x="timesteps back",
        )  # fmt: skip
        reach = reach_of(layer)
        if reach is not None and count:
            at = min(reach, count - 1)
            drawn["mark"] = {"at": at, "text": f"reach {reach} of {count}"}
        profiles[name] = drawn | {"step": sample.step}
    return profiles
