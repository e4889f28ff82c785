"""What the layers are meant to reach, beside what was measured."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from _layers.problem import SHAPES
from _layers.speed import PIECEWISE_LINEAR, SMOOTH

Result = dict[str, Any]
MIB = 2**20


@dataclass(frozen=True)
class Target:
    """One claim; ``measured`` is ``None`` where this run did not measure it."""

    what: str
    at_least: bool
    bound: float
    measured: float | None
    unit: str = "×"

    @property
    def met(self) -> bool | None:
        """Say whether it is reached."""
        if self.measured is None:
            return None
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain data for JSON."""
        return {**asdict(self), "met": self.met}


def geomean(values: Iterable[float]) -> float:
    """Return the geometric mean."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs))


def targets(result: Result) -> list[Target]:
    """Return all targets in the order of their text."""
    speed = result.get("speed")
    if speed is not None and set(speed) != set(SHAPES):
        speed = None  # "every shape" is not known from some
    rows = [*_speed(speed, result["threads"]), *_steps(result.get("steps"))]
    rows += _diagnostics(result.get("diagnostics"))
    rows += _ragged(result.get("ragged"))
    return rows + _fixed(result.get("fixed"))


def _speed(speed: Result | None, threads: list[int]) -> list[Target]:
    most = str(threads[-1])

    def against(name: str) -> dict[str, float]:
        rows = {shape: row["ratios"]["against"][most] for shape, row in (speed or {}).items()}
        return {shape: row[name] for shape, row in rows.items() if name in row}

    rows = []
    for name, overall, worst, single in (
        ("RNN tanh / torch.nn.RNN", 5.0, 2.2, {"S3": 5.0}),
        ("RNN relu / torch.nn.RNN", 5.0, 2.2, {"S3": 5.0}),
        ("RNN leaky_relu / Python loop", 4.5, None, {}),
        ("LSTM / torch.nn.LSTM", 1.7, 1.0, {"S3": 2.5, "S4": 2.8}),
        ("GRU / torch.nn.GRU", 5.0, 2.0, {}),
        ("RNN tanh / JAX scan, autodiff", 2.7, None, {}),
        ("RNN tanh / JAX scan, backward by hand", None, 1.0, {}),
    ):
        found = against(name)
        if overall:
            rows.append(_at_least(f"{name}: geomean", overall, geomean, found.values()))
        if worst:
            rows.append(_at_least(f"{name}: slowest shape", worst, min, found.values()))
        for shape, bound in single.items():
            rows.append(_at_least(f"{name}: {shape}", bound, min, _only(found, shape)))
    return rows + _activations(speed) + _hardware(speed, most)


def _activations(speed: Result | None) -> list[Target]:
    """The geomean over the shapes is judged: the worst of 30 noisy ratios says little."""
    rows = []
    for label, names, bound in (
        ("piecewise linear", PIECEWISE_LINEAR, 1.05),
        ("smooth", SMOOTH, 1.3),
    ):
        values = [
            geomean(row["ratios"]["activation_over_tanh"][name] for row in speed.values())
            for name in names
        ] if speed else []  # fmt: skip
        what = f"time of the slowest {label} activation / own tanh: geomean"
        rows.append(_at_most(what, bound, values))
    return rows


def _hardware(speed: Result | None, most: str) -> list[Target]:
    shapes = {name: row["ratios"] for name, row in (speed or {}).items() if name != "S1"}
    rows = []
    for kind in ("rnn", "lstm", "gru"):
        values = [row["over_peak"][most]["own"][kind] for row in shapes.values()]
        what = f"{kind.upper()} time / (flops / peak FMA): slowest of S2–S6"
        rows.append(_at_most(what, 2.2, values))
    for kind in ("rnn", "lstm", "gru"):
        values = [row["scaling"]["own"][kind] for row in shapes.values() if row["scaling"]]
        what = f"{kind.upper()}, 1 → {most} threads: least of S2–S6"
        rows.append(_at_least(what, 1.6, min, values))
    return rows


def _steps(steps: Result | None) -> list[Target]:
    what = "training step with Linear head and loss, torch.nn.RNN / own"
    return [
        _at_least(f"{what}: {shape}", 4.0, min, [steps[shape]["ratio"]] if steps else [])
        for shape in ("S2", "S3")
    ]


def _diagnostics(diagnostics: Result | None) -> list[Target]:
    found = {
        shape: 100 * (row["high"] - 1) for shape, row in (diagnostics or {"rnn": {}})["rnn"].items()
    }
    larger = [value for shape, value in found.items() if shape != "S1"]
    if len(larger) < len(SHAPES) - 1:
        larger = []
    what = "diagnostics of the RNN, upper end of the 95 % interval"
    return [
        _at_most(f"{what}: S1", 6.0, _only(found, "S1"), "%"),
        _at_most(f"{what}: slowest of S2–S6", 3.0, larger, "%"),
    ]


def _ragged(ragged: Result | None) -> list[Target]:
    kinds = ("rnn", "lstm", "gru")
    over = [ragged[kind]["over_share"] for kind in kinds] if ragged else []
    lstm = [ragged["lstm"]["against_torch"]] if ragged else []
    return [
        _at_most("ragged: time / (share of tokens · padded time), slowest kind", 1.15, over),
        _at_least("ragged LSTM: torch's packed LSTM / own", 4.0, min, lstm),
    ]


def _fixed(fixed: Result | None) -> list[Target]:
    call = [fixed["call"]["rnn"]["own"]["ms"]] if fixed else []
    first = [fixed["first_call_ms"]["own"]["median"]] if fixed else []
    wheel = [fixed["wheel_bytes"] / MIB] if fixed and fixed["wheel_bytes"] else []
    memory = [row["ratio"] for row in fixed["memory"].values()] if fixed else []
    return [
        _at_most("fixed cost of an RNN's forward + backward", 0.15, call, "ms"),
        _at_most("first call in a fresh process", 50.0, first, "ms"),
        _at_most("wheel", 2.0, wheel, "MiB"),
        _at_most("peak memory of an RNN step / (outputs + gradients): most of S1–S6", 1.1, memory),
    ]


def _only(found: dict[str, float], shape: str) -> list[float]:
    return [found[shape]] if shape in found else []


def _at_least(what: str, bound: float, judge: Any, values: Iterable[float]) -> Target:
    known = list(values)
    return Target(what, True, bound, float(judge(known)) if known else None)


def _at_most(what: str, bound: float, values: Iterable[float], unit: str = "×") -> Target:
    known = list(values)
    return Target(what, False, bound, max(known) if known else None, unit)
