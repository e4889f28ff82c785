"""Times of the layers against torch, the Python loop, JAX and the hardware, at all shapes."""

from __future__ import annotations

import statistics
import time
from typing import Any

from _layers.pool import Pool, Timing, ratio
from _layers.problem import SHAPES, Case, Shape, flops

PEAK_SECONDS = 0.01
PRODUCT_SIZE = 2048

PIECEWISE_LINEAR = ("relu", "leaky_relu", "hardtanh", "identity", "modrelu")
SMOOTH = ("elu", "selu", "softsign", "sigmoid", "gelu", "silu")

# What stands over what; both of the same round. More than 1: ours is faster.
AGAINST = {
    "RNN tanh / torch.nn.RNN": (Case("torch"), Case("own")),
    "RNN relu / torch.nn.RNN": (Case("torch", "rnn", "relu"), Case("own", "rnn", "relu")),
    "RNN leaky_relu / Python loop": (
        Case("loop", "rnn", "leaky_relu"),
        Case("own", "rnn", "leaky_relu"),
    ),
    "LSTM / torch.nn.LSTM": (Case("torch", "lstm"), Case("own", "lstm")),
    "GRU / torch.nn.GRU": (Case("torch", "gru"), Case("own", "gru")),
    "RNN tanh / JAX scan, autodiff": (Case("autodiff"), Case("own")),
    "RNN tanh / JAX scan, backward by hand": (Case("by-hand"), Case("own")),
}
KINDS = ("rnn", "lstm", "gru")


def cases_of(kind: str, threads: tuple[int, ...], jax: bool) -> list[tuple[Case, int]]:
    """Return what is compared in one round: all of a kind, on every number of threads."""
    named = [case for pair in AGAINST.values() for case in pair]
    wanted = list(dict.fromkeys(case for case in named if case.kind == kind))
    if not jax:
        wanted = [case for case in wanted if case.who not in ("autodiff", "by-hand")]
    order = [(case, count) for case in wanted for count in threads]
    most = threads[-1]
    order.append((Case("gemm", kind), most))
    if kind == "rnn":
        others = [name for name in PIECEWISE_LINEAR + SMOOTH if name not in ("relu", "leaky_relu")]
        order += [(Case("own", "rnn", name), most) for name in others]
    return order


def measure(pool: Pool, shapes: dict[str, Shape], threads: tuple[int, ...]) -> dict[str, Any]:
    """Return times and ratios by shape."""
    result: dict[str, Any] = {}
    for name, shape in shapes.items():
        found: dict[tuple[Case, int], Timing] = {}
        peaks: dict[int, list[float]] = {count: [] for count in threads}
        for kind in KINDS:
            for count in threads:
                peaks[count] += [peak_of(pool, count) for _ in range(3)]
            start = time.perf_counter()
            found |= pool.compare(cases_of(kind, threads, pool.jax is not None), shape)
            print(f"  {name} {kind}: {time.perf_counter() - start:.0f} s", flush=True)
        # The best of them, not the median: what disturbs it would make every layer look better.
        peak = {count: max(values) for count, values in peaks.items()}
        result[name] = {
            "T,B,I,H": shape,
            "peak_gflops": {str(count): value for count, value in peak.items()},
            "times": [
                {"case": str(case), "threads": count, **timing.to_dict()}
                for (case, count), timing in found.items()
            ],
            "ratios": ratios(found, threads, shape, peak),
        }
    return result


def peak_of(pool: Pool, threads: int) -> float:
    """Return the GFLOP/s of multiply-adds in registers; of one torch.mm where there is no core."""
    worker = pool.worker("own", threads)
    peak = worker.ask("peak", seconds=PEAK_SECONDS)
    return float(peak or worker.ask("product", size=PRODUCT_SIZE))


def peak_source(pool: Pool, threads: int) -> str:
    """Say what `peak_of` measures here."""
    if pool.worker("own", threads).ask("peak", seconds=PEAK_SECONDS):
        return "fused multiply-adds in registers, on the instruction set in use"
    return f"torch.mm of {PRODUCT_SIZE}³ (no native core that tells its peak): not the true floor"


def ratios(
    found: dict[tuple[Case, int], Timing],
    threads: tuple[int, ...],
    shape: Shape,
    peak: dict[int, float],
) -> dict[str, Any]:
    """Return the ratios of one shape; those by threads under the number of threads."""
    most = threads[-1]
    against = {
        str(count): {
            name: ratio(found[over, count], found[under, count])
            for name, (over, under) in AGAINST.items()
            if (over, count) in found
        }
        for count in threads
    }
    own = {case.activation: t for (case, count), t in found.items()
           if case.who == "own" and case.kind == "rnn" and count == most}  # fmt: skip
    return {
        "against": against,
        "activation_over_tanh": {
            name: ratio(timing, own["tanh"]) for name, timing in own.items() if name != "tanh"
        },
        "over_peak": {
            str(count): {
                who: {kind: over_peak(found[Case(who, kind), count], kind, shape, peak[count])
                      for kind in KINDS}
                for who in ("own", "torch")
            }
            for count in threads
        },
        "over_products": {
            kind: ratio(found[Case("own", kind), most], found[Case("gemm", kind), most])
            for kind in KINDS
        },
        "scaling": {
            who: {
                kind: ratio(found[Case(who, kind), threads[0]], found[Case(who, kind), most])
                for kind in KINDS
            }
            for who in ("own", "torch")
        } if len(threads) > 1 else {},
    }  # fmt: skip


def over_peak(timing: Timing, kind: str, shape: Shape, gflops: float) -> float:
    """Return the time over what the operations take at the peak."""
    return statistics.median(timing.rounds) / (flops(kind, shape) / gflops / 1e9)


def steps(pool: Pool, threads: int) -> dict[str, Any]:
    """Return a training step with torch's layer over one with ours, at S2 and S3."""
    result = {}
    for name in ("S2", "S3"):
        own, theirs = Case("own", form="training"), Case("torch", form="training")
        found = pool.compare([(own, threads), (theirs, threads)], SHAPES[name])
        result[name] = {
            "own": found[own, threads].to_dict(),
            "torch": found[theirs, threads].to_dict(),
            "ratio": ratio(found[theirs, threads], found[own, threads]),
        }
        print(f"  {name} {result[name]['ratio']:.2f}×", flush=True)
    return result
