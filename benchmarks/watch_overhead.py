"""What `gradreach.watch` adds to the time of a training loop.

    python benchmarks/watch_overhead.py [--steps 400] [--rounds 8] [--cells RNN GRU LSTM]

T = 200 steps, B = 16 sequences, H = 128 units, on one core. Every round trains the same network
from the same seed plainly and under each preset, in an order that rotates, each time from
attaching to detaching, the dense start included. The overhead of a round is the watched run's
time by the plain one's; what stands in the results is the mean over rounds with its 95 % interval
(Student's t). The time is that of the process on its core: a neighbour that takes the core away
is not our cost. Wall times are in the file, too, and the share that the watch tells of itself.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from statistics import mean, stdev
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch looks

import torch
from torch import nn

import gradreach as gr

RESULTS = Path(__file__).parent / "results" / "watch_overhead.json"
PRESETS = ("economy", "standard")
STEPS_IN_TIME, BATCH, INPUTS, HIDDEN = 200, 16, 32, 128
# Student's t, two-sided 95 %, by degrees of freedom.
T95 = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26, 10: 2.23,
       11: 2.20, 15: 2.13, 19: 2.09}  # fmt: skip


class Reader(nn.Module):
    """A sequence in, one number out."""

    def __init__(self, cell: str) -> None:
        super().__init__()
        self.rnn = getattr(nn, cell)(INPUTS, HIDDEN)
        self.out = nn.Linear(HIDDEN, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Read off the last step."""
        return self.out(self.rnn(x)[0][-1])


def run(cell: str, cost: str | None, steps: int) -> dict[str, Any]:
    """Train once; return its seconds and what the watch says of itself."""
    torch.manual_seed(0)
    model = Reader(cell)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    batches = [(torch.randn(STEPS_IN_TIME, BATCH, INPUTS), torch.randn(BATCH, 1)) for _ in range(8)]
    on_core, on_wall = time.process_time(), time.perf_counter()
    watched = None if cost is None else gr.watch(model, optimizer, cost=cost).start()
    for step in range(steps):
        x, y = batches[step % len(batches)]
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    if watched is not None:
        watched.stop()
    result: dict[str, Any] = {
        "core": time.process_time() - on_core,
        "wall": time.perf_counter() - on_wall,
        "weights": float(sum(p.detach().double().sum() for p in model.parameters())),
    }
    if watched is not None:
        if watched.trouble:
            raise SystemExit(watched.trouble)
        meta = watched.history.meta
        result |= {
            "told": watched.overhead,
            "rows": len(watched.history),
            "samples": meta["samples"],
            "probes": len(watched.history.probes),
        }
    return result


def interval(values: list[float]) -> tuple[float, float]:
    """Return mean and half width of the 95 % interval."""
    freedom = len(values) - 1
    if freedom < 1:
        return values[0], math.inf
    t = T95[max(each for each in T95 if each <= freedom)]
    return mean(values), t * stdev(values) / math.sqrt(len(values))


def measured(cell: str, steps: int, rounds: int) -> dict[str, Any]:
    """Run all rounds of one cell."""
    kinds: tuple[str | None, ...] = (None, *PRESETS)
    run(cell, None, 10)  # the first call of a kernel is none of a training's
    table: list[dict[str | None, dict[str, Any]]] = []
    for number in range(rounds):
        turn = number % len(kinds)
        order = [*kinds[turn:], *kinds[:turn]]
        table.append({kind: run(cell, kind, steps) for kind in order})
        if len({row["weights"] for row in table[-1].values()}) > 1:
            raise SystemExit(f"{cell}: the watched training went another way")
    found: dict[str, Any] = {
        "plain_seconds": mean(row[None]["core"] for row in table),
        "rounds": [{str(kind): row[kind] for kind in kinds} for row in table],
    }
    for preset in PRESETS:
        shares = [row[preset]["core"] / row[None]["core"] - 1 for row in table]
        walls = [row[preset]["wall"] / row[None]["wall"] - 1 for row in table]
        center, half = interval(shares)
        found[preset] = {
            "overhead": center,
            "low": center - half,
            "high": center + half,
            "wall_overhead": interval(walls)[0],
            "told": mean(row[preset]["told"] for row in table),
        }
        last = table[-1][preset]
        print(
            f"{cell:5} {preset:9} {center:7.2%}  [{center - half:7.2%}, {center + half:7.2%}]  "
            f"told {found[preset]['told']:.2%}  rows {last['rows']}, samples {last['samples']}, "
            f"probes {last['probes']}"
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--cells", nargs="+", default=["RNN", "GRU", "LSTM"])
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    cells = {cell: measured(cell, given.steps, given.rounds) for cell in given.cells}
    result = {
        "benchmark": "watch_overhead",
        "machine": {"platform": platform.platform(), "cores": os.cpu_count()},
        "versions": {"torch": version("torch"), "gradreach": gr.__version__},
        "sizes": {"T": STEPS_IN_TIME, "B": BATCH, "H": HIDDEN, "steps": given.steps},
        "promised": {"economy": 0.01, "standard": 0.05},
        "cells": cells,
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
