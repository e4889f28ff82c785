"""The worker processes, and rounds of visits to them."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _layers.problem import Case, Shape

HERE = Path(__file__).parent
LOAD = Path("/proc/loadavg")
# libgomp's threads spin for some milliseconds after their work: not into the next visit's time.
SETTLE_SECONDS = 0.015
# Frameworks add in different orders, in float32, over up to 1000 steps.
SAME = 2e-3

# How long a run waits, all in all, for moments in which nobody else wants the processors.
PATIENCE_SECONDS = 60.0

Place = tuple[str, int]  # worker, threads


class Worker:
    """One process: a framework on so many processors."""

    def __init__(self, framework: str, threads: int, python: str) -> None:
        path = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))
        self.name = f"{framework}, {threads} threads"
        self.threads = threads
        self.process = subprocess.Popen(
            [python, "-m", "_layers.worker", framework, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={
                **os.environ,
                "PYTHONPATH": path,
                "OMP_NUM_THREADS": str(threads),
                "JAX_PLATFORMS": "cpu",
            },
            text=True,
        )

    def ask(self, do: str, **what: Any) -> Any:
        """Ask for one thing and wait for it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": do, **what}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"The worker of {self.name} died on {do} {what}; its words are above.")
        answer = json.loads(line)
        if "error" in answer:
            raise SystemExit(f"The worker of {self.name} failed on {do}:\n{answer['error']}")
        return answer["answer"]

    def stop(self) -> None:
        """End the process and wait for it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def others_running() -> bool:
    """Say whether anybody but this process has work for a processor now; Linux only."""
    if not LOAD.exists():
        return False
    return int(LOAD.read_text().split()[3].partition("/")[0]) > 1


@dataclass
class Timing:
    """What the visits to one case found, in seconds; one entry per round."""

    rounds: list[float] = field(default_factory=list)
    samples: list[float] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for JSON, in ms."""
        ordered = sorted(self.samples)
        return {
            "ms": 1e3 * statistics.median(ordered),
            "ms_quartiles": [1e3 * ordered[len(ordered) * k // 4] for k in (1, 3)],
            "samples": len(ordered),
            "ms_of_rounds": [round(1e3 * seconds, 5) for seconds in self.rounds],
        }


def ratio(over: Timing, under: Timing) -> float:
    """Return the median over the rounds of one time over another of the same round."""
    return statistics.median(a / b for a, b in zip(over.rounds, under.rounds, strict=True))


class Pool:
    """All workers; each is started when it is first needed."""

    def __init__(self, jax: str | None, rounds: int, visit_seconds: float) -> None:
        self.jax, self.rounds, self.visit_seconds = jax, rounds, visit_seconds
        self.workers: dict[Place, Worker] = {}
        self.patience = PATIENCE_SECONDS
        self.visits = self.disturbed = 0

    def worker(self, who: str, threads: int) -> Worker:
        """Return the worker of a case: ours, torch's, the loop's or JAX's."""
        name = {"gemm": "torch", "autodiff": "jax", "by-hand": "jax"}.get(who, who)
        if (name, threads) not in self.workers:
            jax = name == "jax"
            python = self.jax if jax and self.jax else sys.executable
            self.workers[name, threads] = Worker("jax" if jax else "torch", threads, python)
        return self.workers[name, threads]

    def stop(self) -> None:
        """End all processes."""
        for worker in self.workers.values():
            worker.stop()

    def compare(
        self, cases: Iterable[tuple[Case, int]], shape: Shape
    ) -> dict[tuple[Case, int], Timing]:
        """Visit the cases in turn, the other way round every other time."""
        order = list(cases)
        self._check(order, shape)
        found = {key: Timing() for key in order}
        for number in range(self.rounds):
            for case, threads in order if number % 2 == 0 else reversed(order):
                samples = self._visit(case, threads, shape)
                found[case, threads].rounds.append(statistics.median(samples))
                found[case, threads].samples += samples
        for worker in self.workers.values():
            worker.ask("close")
        return found

    def _visit(self, case: Case, threads: int, shape: Shape) -> list[float]:
        """Time a case once, in a quiet moment where one comes soon; count the others."""
        worker = self.worker(case.who, threads)
        start = time.perf_counter()
        while others_running() and time.perf_counter() - start < min(0.2, self.patience):
            time.sleep(0.002)
        self.patience -= time.perf_counter() - start
        before = others_running()
        samples: list[float] = worker.ask(
            "visit", case=str(case), shape=shape, seconds=self.visit_seconds
        )
        time.sleep(SETTLE_SECONDS if threads > 1 else 0)
        self.visits += 1
        self.disturbed += before or others_running()
        return samples

    def _check(self, order: list[tuple[Case, int]], shape: Shape) -> None:
        """Refuse to time what does not compute the same."""
        first: dict[str, list[float]] = {}
        for case, threads in order:
            norms = self.worker(case.who, threads).ask("open", case=str(case), shape=shape)
            if case.answer is None:
                continue
            known = first.setdefault(case.answer, norms)
            pairs = zip(norms, known, strict=True)
            if any(abs(a - b) > SAME * abs(b) for a, b in pairs):
                raise SystemExit(f"{case} at {shape} computes something else: {norms}, {known}")
