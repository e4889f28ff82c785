"""What `measure` costs beyond the user's own pass, in time and memory.

    python benchmarks/measure_cost.py [--pairs 9] [--threads 2] [--out FILE]

For nn.RNN, nn.GRU and nn.LSTM at the shapes S1 … S6: the time of one forward + backward of the
layer in plain torch, and the time from the end of that pass to the finished record (replay,
float64 reverse scan, contributions, closure check; no lag profile), interleaved, medians, as a
ratio. Memory: peak resident size of a training step and of `measure`, each in a fresh process.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

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
KINDS = ("RNN", "GRU", "LSTM")
RESULTS = Path(__file__).parent / "results" / "measure_cost.json"


def case(kind: str, shape: tuple[int, ...]) -> tuple[nn.RNNBase, torch.Tensor, torch.Tensor]:
    """Return a layer, its input and a fixed gradient of its output."""
    steps, batch, inputs, hidden = shape
    torch.manual_seed(0)
    layer = getattr(nn, kind)(inputs, hidden)
    x = torch.randn(steps, batch, inputs, requires_grad=True)
    return layer, x, torch.randn(steps, batch, hidden)


def plain_seconds(layer: nn.RNNBase, x: torch.Tensor, upstream: torch.Tensor) -> float:
    """Time one forward + backward in plain torch."""
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


def peak_bytes(kind: str, shape: tuple[int, ...], what: str) -> int:
    """Return the peak resident memory of one pass above its start, from a fresh process."""
    command = [sys.executable, __file__, "--child", kind, json.dumps(shape), what]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def child(kind: str, shape: tuple[int, ...], what: str) -> None:
    """Run one pass and print its peak; the first, small pass loads everything."""
    small, x, upstream = case(kind, (3, 2, shape[2], shape[3]))
    gradreach.measure(small, lambda: (small(x)[0] * upstream).sum(), lag_probes=0)
    layer, x, upstream = case(kind, shape)
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    before = resident("VmRSS")
    if what == "train":
        (layer(x)[0] * upstream).sum().backward()
    else:
        gradreach.measure(layer, lambda: (layer(x)[0] * upstream).sum(), lag_probes=0)
    print(1024 * (resident("VmHWM") - before))


def resident(name: str) -> int:
    """Return a line of the kernel's account of this process, in KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise SystemExit(f"/proc/self/status has no {name}: memory is measured on Linux only")


def measured(pairs: int) -> list[dict[str, Any]]:
    """Return one row per kind and shape."""
    rows = []
    for kind in KINDS:
        for name, shape in SHAPES.items():
            layer, x, upstream = case(kind, shape)
            plain_seconds(layer, x, upstream)
            analysis_seconds(layer, x, upstream)
            pair = [
                (plain_seconds(layer, x, upstream), analysis_seconds(layer, x, upstream))
                for _ in range(pairs)
            ]
            train, watched = (peak_bytes(kind, shape, what) for what in ("train", "measure"))
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
                f"{kind:4} {name}  plain {row['plain_ms']:7.1f} ms   beyond it "
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
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.child:
        child(args.child[0], tuple(json.loads(args.child[1])), args.child[2])
        return
    rows = measured(args.pairs)
    medians = {
        kind: statistics.median(row["ratio"] for row in rows if row["kind"] == kind)
        for kind in KINDS
    }
    print("median over the shapes:", {kind: f"{value:.2f}×" for kind, value in medians.items()})
    result = {
        "command": "python benchmarks/measure_cost.py",
        "pairs": args.pairs,
        "threads": args.threads,
        "machine": {"processor": platform.machine(), "cpus": os.cpu_count(), "cpu": cpu_name()},
        "versions": {"torch": torch.__version__, "python": platform.python_version(),
                     "gradreach": gradreach.__version__},
        "median_ratio": medians,
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
