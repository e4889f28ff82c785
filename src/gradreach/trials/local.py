"""Runs trials on this machine, some at a time, each in a fresh process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Self

from gradreach.records.trial import Trial
from gradreach.trials.conclude import ATTEMPTS, concluded
from gradreach.trials.spec import TrialSpec
from gradreach.trials.study import Study
from gradreach.trials.worker import Ended, Worker, WorkerError, WorkerGoneError

__all__ = ["LocalPool", "Told"]

Told = Callable[[TrialSpec, Trial | None], None]
"""Called with a trial that begins, and again with its result."""

TICK = 0.2  # seconds between the looks of a progress bar


class LocalPool:
    """A fork server and the trials that run from it.

    Args:
        jobs: Trials at a time.
        threads: Of each.

    Example:
        >>> with LocalPool(2, threads=1) as pool:
        ...     pool.jobs
        2
    """

    def __init__(self, jobs: int, threads: int) -> None:
        self.jobs, self.threads = jobs, threads
        self._worker = Worker(threads)
        self._restarts = 0

    def run(
        self,
        specs: Sequence[TrialSpec],
        study: Study,
        told: Told,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        """Run trials until each has a result in the study.

        Args:
            specs: Trials without a result.
            study: Takes the results.
            told: Hears of each beginning and each end.
            tick: Called a few times a second.

        Raises:
            WorkerError: The process that they are forked from cannot be kept alive.
        """
        waiting = deque((spec, 1) for spec in specs)
        running: dict[int, tuple[TrialSpec, int]] = {}
        while waiting or running:
            try:
                # The next one begins while the one before is being cleared away.
                while waiting and len(running) - len(self._worker.ending) < self.jobs:
                    spec, attempt = waiting[0]
                    folder = study.prepare(spec)
                    running[self._worker.start(spec, folder, study.log_of(spec))] = (
                        waiting.popleft()
                    )
                    told(spec, None)
                if waiting:  # while the others compute: the disk takes its time
                    study.prepare(waiting[0][0])
                for ended in self._worker.wait(TICK):
                    spec, attempt = running.pop(ended.name)
                    trial = _result(study, spec, ended, attempt)
                    if trial is None:
                        waiting.appendleft((spec, attempt + 1))
                    else:
                        told(spec, trial)
            except WorkerGoneError:
                self._restart()
                for spec, attempt in running.values():
                    found = study.result_of(spec)
                    if found is None:
                        waiting.appendleft((spec, attempt))
                    else:
                        told(spec, found)
                running.clear()
            tick()

    def _restart(self) -> None:
        self._worker.close()
        self._restarts += 1
        if self._restarts > ATTEMPTS:
            raise WorkerError(
                f"the process that trials are forked from has ended {self._restarts} times: look "
                "at what ends it (memory?); the results so far are kept"
            )
        self._worker = Worker(self.threads)

    @property
    def pid(self) -> int:
        """Process id of the fork server."""
        return self._worker.pid

    def close(self) -> None:
        """End the trials that still run."""
        self._worker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _result(study: Study, spec: TrialSpec, ended: Ended, attempt: int) -> Trial | None:
    """Return the result that the process left, or what its end means; ``None``: once more."""
    found = study.result_of(spec)
    if found is not None:
        return found
    trial = concluded(spec, ended, study.log_of(spec), attempt)
    if trial is not None:
        study.commit(spec, trial)
    return trial
