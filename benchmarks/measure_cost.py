"""What `measure` costs beyond the user's own pass, in time and memory.

    python benchmarks/measure_cost.py [--pairs 9] [--threads 2] [--kinds KIND,…] [--out FILE]

For nn.RNN, nn.GRU and nn.LSTM and for gradreach's own three layers, at the shapes S1 … S6: the time
of one forward + backward of the layer itself, and the time from the end of that pass to the
finished record (replay, float64 reverse scan, contributions, closure check; no lag profile),
interleaved, medians, as a ratio. Memory: peak of live tensor memory of `measure`, as a ratio to
that of the training step. With --kinds only those are measured; the file keeps its other rows.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

import gradreach
from gradreach.flow.analyse import analyse
from gradreach.flow.backward import run_backward
from gradreach.flow.find import find_recurrent
from gradreach.flow.sources.recorder import Recorder

# T, B, I, H
SHAPES = {
    "S1": (100, 32, 32, 32),
    "S2": (100, 32, 128, 128),
    "S3": (784, 32, 1, 128),
    "S4": (1000, 16, 2, 100),
    "S5": (100, 64, 256, 512),
    "S6": (35, 20, 650, 650),
}
KINDS = ("RNN", "GRU", "LSTM", "own RNN", "own GRU", "own LSTM")  # own: of gradreach.nn
RESULTS = Path(__file__).parent / "results" / "measure_cost.json"


def case(kind: str, shape: tuple[int, ...]) -> tuple[nn.RNNBase, torch.Tensor, torch.Tensor]:
    """Return a layer, its input and a fixed gradient of its output."""
    steps, batch, inputs, hidden = shape
    torch.manual_seed(0)
    package = gradreach.nn if kind.startswith("own ") else nn
    layer = getattr(package, kind.removeprefix("own "))(inputs, hidden)
    x = torch.randn(steps, batch, inputs, requires_grad=True)
    return layer, x, torch.randn(steps, batch, hidden)


def plain_seconds(layer: nn.RNNBase, x: torch.Tensor, upstream: torch.Tensor) -> float:
    """Time one forward + backward of the layer."""
    start = time.perf_counter()
    output, _ = layer(x)
    torch.autograd.grad(output, [x, *layer.parameters()], upstream)
    return time.perf_counter() - start


def analysis_seconds(layer: nn.RNNBase, x: torch.Tensor, upstream: torch.Tensor) -> float:
    """Time what comes after the user's own pass."""
    with Recorder(find_recurrent(layer).watched) as recorder:
        loss = (layer(x)[0] * upstream).sum()
        gradients = run_backward(recorder, loss)
    start = time.perf_counter()
    layers, blind = analyse(recorder.calls, gradients, 0, 0)
    seconds = time.perf_counter() - start
    if blind or max(next(iter(layers.values())).closure_error.values()) > 1e-4:
        raise SystemExit(f"the measurement itself failed: {blind or layers}")
    return seconds


def peak_bytes(work: Callable[[], object]) -> int:
    """Return the peak of live tensor memory while ``work`` runs, by torch's own account."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        work()
    events = watched.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    live = peak = 0
    for _, change in changes:
        live += change
        peak = max(peak, live)
    return peak


def memory(layer: nn.RNNBase, x: torch.Tensor, upstream: torch.Tensor) -> tuple[int, int]:
    """Return the peaks of a training step and of `measure` on the same loss."""

    def loss() -> torch.Tensor:
        return (layer(x)[0] * upstream).sum()

    trained = peak_bytes(lambda: loss().backward())
    layer.zero_grad()
    x.grad = None
    return trained, peak_bytes(lambda: gradreach.measure(layer, loss, lag_probes=0))


def measured(pairs: int, kinds: list[str]) -> list[dict[str, Any]]:
    """Return one row per kind and shape."""
    rows = []
    for kind in kinds:
        for name, shape in SHAPES.items():
            layer, x, upstream = case(kind, shape)
            plain_seconds(layer, x, upstream)
            analysis_seconds(layer, x, upstream)
            pair = [
                (plain_seconds(layer, x, upstream), analysis_seconds(layer, x, upstream))
                for _ in range(pairs)
            ]
            train, watched = memory(layer, x, upstream)
            row = {
                "kind": kind,
                "shape": name,
                "T,B,I,H": shape,
                "plain_ms": 1e3 * statistics.median(plain for plain, _ in pair),
                "ratio": statistics.median(own / plain for plain, own in pair),
                "ratio_min": min(own / plain for plain, own in pair),
                "ratio_max": max(own / plain for plain, own in pair),
                "train_peak_mib": train / 2**20,
                "memory_ratio": watched / train,
            }
            rows.append(row)
            print(
                f"{kind:8} {name}  plain {row['plain_ms']:7.1f} ms   beyond it "
                f"{row['ratio']:5.2f}× ({row['ratio_min']:.2f}-{row['ratio_max']:.2f})   memory "
                f"{row['memory_ratio']:.2f}× of {row['train_peak_mib']:.0f} MiB",
                flush=True,
            )
    return rows


def main() -> None:
    """Measure all rows and write them with the machine they were measured on."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--kinds", default=",".join(KINDS), help="of " + ", ".join(KINDS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    kinds = args.kinds.split(",")
    before = json.loads(args.out.read_text())["rows"] if kinds != list(KINDS) else []
    rows = [row for row in before if row["kind"] not in kinds] + measured(args.pairs, kinds)
    rows.sort(key=lambda row: KINDS.index(row["kind"]))
    medians = {
        kind: {
            name: statistics.median(row[name] for row in rows if row["kind"] == kind)
            for name in ("ratio", "memory_ratio")
        }
        for kind in KINDS
    }
    for kind, found in medians.items():
        print(f"median over the shapes, {kind}: time {found['ratio']:.2f}×, memory "
              f"{found['memory_ratio']:.2f}×")  # fmt: skip
    options = f"--pairs {args.pairs} --threads {args.threads}"
    result = {
        "command": f"python benchmarks/measure_cost.py {options}",
        "pairs": args.pairs,
        "threads": args.threads,
        "machine": {"processor": platform.machine(), "cpus": os.cpu_count(), "cpu": cpu_name()},
        "versions": {"torch": torch.__version__, "python": platform.python_version(),
                     "gradreach": gradreach.__version__},
        "medians": medians,
        "rows": rows,
    }  # fmt: skip
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")


def cpu_name() -> str:
    """Return the processor's name as the kernel tells it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    main()
