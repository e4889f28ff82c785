"""One framework in a process of its own: reads a request a line, answers a line of JSON.

    python -m _layers.worker (torch|jax) THREADS

The processors are chosen before the framework is imported, so that its threads see only those.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

UNTIMED_SECONDS = 0.003  # at least one step: caches, and threads that fell asleep
TIMED_STEPS = 2

Step = Callable[[], Any]


def timed(step: Step) -> float:
    """Return the seconds of one step."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


class Bench:
    """The cases that are open in this process."""

    def __init__(self, framework: str, threads: int) -> None:
        self.cases = importlib.import_module(f"_layers.{framework}_cases")
        self.framework, self.threads = framework, threads
        self.steps: dict[tuple[str, ...], Step] = {}

    def step(self, case: str, shape: list[int]) -> Step:
        """Return the step of a case, built when it is first asked for."""
        from _layers.problem import Case

        key = (case, *map(str, shape))
        if key not in self.steps:
            self.steps[key] = self.cases.build(Case.read(case), tuple(shape))
        return self.steps[key]

    def open(self, case: str, shape: list[int]) -> list[float]:
        """Run a step; return the norms of its results, to be compared between frameworks."""
        results = self.step(case, shape)()
        if self.framework == "torch":
            results = [result.detach() for result in results]
        return [float((result**2).sum() ** 0.5) for result in results]

    def close(self) -> None:
        """Forget all cases."""
        self.steps.clear()
        gc.collect()

    def visit(self, case: str, shape: list[int], seconds: float) -> list[float]:
        """Time steps until ``seconds`` are over, two at least; return the seconds of each."""
        step = self.step(case, shape)
        gc.collect(0)
        gc.disable()
        start = time.perf_counter()
        while True:
            step()
            if time.perf_counter() - start > UNTIMED_SECONDS:
                break
        samples: list[float] = []
        start = time.perf_counter()
        while len(samples) < TIMED_STEPS or time.perf_counter() - start < seconds:
            samples.append(timed(step))
        gc.enable()
        return samples

    def watched(self, case: str, shape: list[int], **limits: float) -> dict[str, Any]:
        """Compare steps with and without diagnostics."""
        from _layers.pairs import compare

        return compare(self.step(case, shape), **limits)

    def memory(self, case: str, shape: list[int]) -> dict[str, int]:
        """Account for the memory of one step."""
        from _layers.memory import account

        return account(self.step(case, shape))

    def peak(self, seconds: float) -> float | None:
        """Return the most GFLOP/s of these threads; ``None`` where the core cannot tell."""
        from gradreach.kernels.native.core import load

        core = load()
        if core is None or not hasattr(core, "peak_gflops"):
            return None
        return float(core.peak_gflops(core.isa(), self.threads, seconds))

    def product(self, size: int) -> float:
        """Return the GFLOP/s of one square torch.mm."""
        import torch

        a, b = torch.randn(size, size), torch.randn(size, size)
        torch.mm(a, b)
        return 2 * size**3 / timed(lambda: torch.mm(a, b)) / 1e9

    def about(self) -> dict[str, Any]:
        """Return versions, and what the native core runs on."""
        if self.framework == "jax":
            return {"jax": importlib.import_module("jax").__version__}
        import torch

        import gradreach
        from gradreach.kernels import status

        return {
            "torch": torch.__version__,
            "gradreach": gradreach.__version__,
            "kernels": status().to_dict(),
            "threads": torch.get_num_threads(),
        }


def main() -> None:
    """Answer requests until there are no more."""
    framework, threads = sys.argv[1], int(sys.argv[2])
    # What a library prints must not end up between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    bench = Bench(framework, threads)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"answer": getattr(bench, request.pop("do"))(**request)}
        except Exception:  # noqa: BLE001 - told to the process that asked, whatever it is
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
