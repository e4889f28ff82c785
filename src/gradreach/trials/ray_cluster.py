"""Runs trials on a Ray cluster: one task a trial, the study's files written here."""

from __future__ import annotations

import contextlib
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Self

from gradreach.records.trial import Trial
from gradreach.trials.conclude import ATTEMPTS, concluded, failed_trial
from gradreach.trials.key import identity_of
from gradreach.trials.local import TICK, Told
from gradreach.trials.ray_connection import RayError, connected
from gradreach.trials.ray_node import run_on_node
from gradreach.trials.result_file import BrokenResultError, decoded
from gradreach.trials.spec import TrialSpec
from gradreach.trials.study import Study
from gradreach.trials.worker import Ended

__all__ = ["RayPool"]


class RayPool:
    """Ray's core tasks, and no more of Ray: it runs functions, the results are our files.

    Args:
        address: ``"auto"`` or ``"host:port"``. threads: Of each trial, and CPUs of each task.

    Raises:
        MissingExtraError: Ray is not installed.
        RayError: The cluster cannot be used; one sentence says why.
    """

    def __init__(self, address: str, threads: int) -> None:
        self.ray, self._ours = connected(address)
        self.threads = threads
        # max_retries=0: whether a trial is run again is decided here, as on one machine.
        self._task = self.ray.remote(num_cpus=threads, max_retries=0)(run_on_node)
        self._running: dict[Any, tuple[TrialSpec, int]] = {}

    def run(
        self,
        specs: Sequence[TrialSpec],
        study: Study,
        told: Told,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        """Run trials until each has a result in the study.

        Raises:
            RayError: A node cannot run them, or the cluster has no room for one.
        """
        waiting = deque((spec, 1) for spec in specs)
        while waiting or self._running:
            while waiting and len(self._running) < self._room():
                spec, attempt = waiting.popleft()
                study.prepare(spec)
                plain = spec.to_dict()
                task = self._task.remote(plain, identity_of(spec), list(sys.path))
                self._running[task] = (spec, attempt)
                told(spec, None)
            done, _ = self.ray.wait(list(self._running), num_returns=1, timeout=TICK)
            for task in done:
                spec, attempt = self._running.pop(task)
                trial = self._result(task, spec, study, attempt)
                if trial is None:
                    waiting.appendleft((spec, attempt + 1))
                else:
                    told(spec, trial)
            tick()

    def _room(self) -> int:
        """Return how many trials the cluster runs at a time, as it stands now."""
        cpus = self.ray.cluster_resources().get("CPU", 0)
        return max(1, int(cpus) // self.threads)

    def _result(self, task: Any, spec: TrialSpec, study: Study, attempt: int) -> Trial | None:
        """Commit what a task came back with; ``None`` where it is to be run again."""
        errors = self.ray.exceptions
        try:
            told = self.ray.get(task)
        except errors.OutOfMemoryError:
            words = "Ray ended its process for lack of memory on the node"
            trial: Trial | None = failed_trial(spec, "out-of-memory", words, 0.0)
        except errors.RayTaskError as error:
            raise RayError(f"a node could not run a trial: {error.cause or error}") from error
        except errors.RayError as error:  # its process or its node has gone
            if attempt < ATTEMPTS:
                return None
            words = f"its process or node was lost {attempt} times ({type(error).__name__})"
            trial = failed_trial(spec, "crashed", words, 0.0)
        else:
            study.log_of(spec).write_bytes(told["log"])
            trial = _told(told, spec, study, attempt)
        if trial is not None:
            study.commit(spec, trial)
        return trial

    def close(self) -> None:
        """Cancel what still runs, and leave the cluster if we were the ones who joined it."""
        for task in self._running:
            with contextlib.suppress(Exception):
                self.ray.cancel(task, force=True)
        self._running.clear()
        if self._ours:
            self.ray.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _told(told: dict[str, Any], spec: TrialSpec, study: Study, attempt: int) -> Trial | None:
    """Return the trial that a node ran; ``None`` where it is to be run again."""
    if told["result"] is not None:
        with contextlib.suppress(BrokenResultError):
            return decoded(told["result"].encode())
    return concluded(spec, Ended(**told["ended"]), study.log_of(spec), attempt)
