"""Runs a function that only this process has, here, and puts back what a trial changes."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import numpy as np
import torch

from gradreach.records.trial import Trial
from gradreach.trials.local import Told
from gradreach.trials.run import run_trial
from gradreach.trials.spec import TrialSpec
from gradreach.trials.study import Study

__all__ = ["InlinePool"]


class InlinePool:
    """One trial after the other in this process: no limits, nothing to protect it from a crash.

    For a function that no other process can import: one typed into a notebook, a lambda.

    Args:
        build: The function, given the seed.
    """

    def __init__(self, build: Callable[..., Any]) -> None:
        self.build = build

    def run(
        self,
        specs: Sequence[TrialSpec],
        study: Study,
        told: Told,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        """Run trials until each has a result in the study."""
        for spec in specs:
            told(spec, None)
            with _as_before():
                trial: Trial = run_trial(spec, self.build)
            study.commit(spec, trial)
            told(spec, trial)
            tick()

    def close(self) -> None:
        """Do nothing: there is no process to end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def _as_before() -> Iterator[None]:
    """Leave random streams, threads and environment as they were."""
    python, numpy, threads = random.getstate(), np.random.get_state(), torch.get_num_threads()  # noqa: NPY002
    generator, environment = torch.get_rng_state(), dict(os.environ)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(generator)
        torch.set_num_threads(threads)
        if dict(os.environ) != environment:
            os.environ.clear()
            os.environ.update(environment)
