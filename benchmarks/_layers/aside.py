"""What is not a matter of shapes: diagnostics, ragged batches, the fixed costs."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from _layers.pool import Pool, ratio
from _layers.problem import LENGTHS, RAGGED, SHAPES, TINY, Case, Shape

HALF_WIDTH = 0.005
KINDS = ("rnn", "lstm", "gru")

# The first backward of a process, of whatever, makes torch import SymPy: that is told apart.
FIRST_CALL = """
import time
import torch
from {module} import RNN
start = time.perf_counter()
one = torch.ones(1, requires_grad=True)
one.backward(torch.ones(1))
before = time.perf_counter() - start
layer, x = RNN(128, 128), torch.randn(100, 32, 128, requires_grad=True)
upstream = torch.ones(100, 32, 128)
start = time.perf_counter()
output, _ = layer(x)
output.backward(upstream)
print(before, time.perf_counter() - start)
"""


def diagnostics(
    pool: Pool, shapes: dict[str, Shape], threads: int, seconds: float
) -> dict[str, Any]:
    """Return time with diagnostics over time without, with its interval, by kind and shape."""
    worker = pool.worker("own", threads)
    result: dict[str, Any] = {}
    for kind in KINDS:
        result[kind] = {}
        for name, shape in shapes.items():
            found = worker.ask(
                "watched",
                case=str(Case("own", kind)),
                shape=shape,
                # The targets are the RNN's; the two others get half of its time.
                seconds=seconds if kind == "rnn" else seconds / 2,
                half_width=HALF_WIDTH,
            )
            worker.ask("close")
            result[kind][name] = found
            print(
                f"  {kind} {name} {found['ratio']:.4f} ({found['low']:.4f}-{found['high']:.4f}), "
                f"{found['pairs']} pairs{'' if found['sure'] else ', cap reached'}",
                flush=True,
            )
    return result


def ragged(pool: Pool, threads: int) -> dict[str, Any]:
    """Return a packed batch against its share of the padded one, and against torch's."""
    share = sum(LENGTHS) / (RAGGED[0] * RAGGED[1])
    result: dict[str, Any] = {"token_share": share}
    for kind in KINDS:
        packed, padded = Case("own", kind, form="packed"), Case("own", kind)
        theirs = Case("torch", kind, form="packed")
        found = pool.compare([(case, threads) for case in (packed, padded, theirs)], RAGGED)
        result[kind] = {
            "packed": found[packed, threads].to_dict(),
            "padded": found[padded, threads].to_dict(),
            "torch": found[theirs, threads].to_dict(),
            "over_share": ratio(found[packed, threads], found[padded, threads]) / share,
            "against_torch": ratio(found[theirs, threads], found[packed, threads]),
        }
        print(
            f"  {kind} {result[kind]['over_share']:.2f}× its share, torch's packed "
            f"{result[kind]['against_torch']:.2f}×",
            flush=True,
        )
    return result


def fixed(pool: Pool, threads: int, fresh: int, wheel: Path | None) -> dict[str, Any]:
    """Return the costs of a call, of the first one, of the installation, and the memory."""
    calls = {}
    for kind in KINDS:
        pair = [(Case(who, kind), threads) for who in ("own", "torch")]
        found = pool.compare(pair, TINY)
        calls[kind] = {case.who: found[case, count].to_dict() for case, count in pair}
    return {
        "call": calls,
        "first_call_ms": first_calls(fresh, threads),
        "wheel_bytes": wheel.stat().st_size if wheel else None,
        "memory": {name: memory(pool, threads, name) for name in SHAPES},
    }


def memory(pool: Pool, threads: int, name: str) -> dict[str, Any]:
    """Return the account of one step of the tanh RNN."""
    worker = pool.worker("own", threads)
    found = worker.ask("memory", case=str(Case("own")), shape=SHAPES[name])
    worker.ask("close")
    return {**found, "ratio": (found["tensors"] + found["workspace"]) / found["results"]}


def first_calls(fresh: int, threads: int) -> dict[str, Any]:
    """Return the ms of a first forward and backward at S2, each in a process of its own."""
    modules = {"own": "gradreach.nn", "torch": "torch.nn"}
    found: dict[str, list[float]] = {who: [] for who in (*modules, "before")}
    for _ in range(fresh):
        for who, module in modules.items():
            done = subprocess.run(
                [sys.executable, "-c", FIRST_CALL.format(module=module)],
                env={**os.environ, "OMP_NUM_THREADS": str(threads)},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            before, first = (1e3 * float(word) for word in done.stdout.split())
            found["before"].append(before)
            found[who].append(first)
    return {
        who: {"median": statistics.median(values), "each": values}
        for who, values in found.items()
    }  # fmt: skip
