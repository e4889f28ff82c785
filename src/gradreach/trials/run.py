"""Runs one trial in this process, which is taken to be a fresh one."""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from gradreach.records.trial import Outcome, Trial
from gradreach.trials.metric import MetricError
from gradreach.trials.spec import TrialSpec
from gradreach.trials.target import ScriptTarget

__all__ = ["outcome_of", "run_trial"]

# What torch's allocators say, on the systems it runs on, when there is no memory left.
NO_MEMORY = ("not enough memory", "can't allocate memory", "out of memory", "bad_alloc")


def run_trial(spec: TrialSpec) -> Trial:
    """Train once and tell how it went; what the training raises becomes the trial's outcome.

    Nothing is put back: threads, seeds and patches are those of a process that ends with the
    trial. Limits of time and memory are for whoever started the process.

    Args:
        spec: What to train.
    """
    torch.set_num_threads(spec.threads)
    if isinstance(spec.target, ScriptTarget):
        return _script_trial(spec, spec.target)
    begun = time.perf_counter()
    try:
        seed_all(spec.seed)
        returned = spec.target.load()(spec.seed, **spec.target.kwargs)
        metric = number_of(returned, spec.metric.pattern)
    except Exception as error:  # noqa: BLE001  whatever it is, it is this trial's outcome
        return Trial(
            treatment=spec.label, seed=spec.seed, budget=spec.budget, outcome=outcome_of(error),
            message=last_line_of(error), seconds=time.perf_counter() - begun, meta=_meta(spec),
        )  # fmt: skip
    finite = math.isfinite(metric)
    return Trial(
        treatment=spec.label,
        seed=spec.seed,
        budget=spec.budget,
        outcome="finished" if finite else "nonfinite",
        metric=metric if finite else math.nan,
        seconds=time.perf_counter() - begun,
        message="" if finite else f"the metric is {metric}",
        meta=_meta(spec),
    )


def _script_trial(spec: TrialSpec, target: ScriptTarget) -> Trial:
    """Run a script from where it is run."""
    from gradreach.script.trial_run import run_script_trial
    from gradreach.treatments.families import treatment_from

    os.chdir(target.cwd)
    trial = run_script_trial(
        target.path,
        target.args,
        treatment=None if spec.treatment is None else treatment_from(spec.treatment),
        seed=spec.seed,
        budget=spec.budget,
        metric=spec.metric.kind,
        pattern=spec.metric.pattern,
    )
    return replace(trial, treatment=spec.label, meta={**trial.meta, **_meta(spec)})


def _meta(spec: TrialSpec) -> dict[str, Any]:
    return {"threads": spec.threads, "timeout": spec.timeout, "memory": spec.memory}


def seed_all(seed: int) -> None:
    """Seed every stream a training may draw from, and say the seed in ``GRADREACH_SEED``."""
    os.environ["GRADREACH_SEED"] = str(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  the stream that users' code draws from
    torch.manual_seed(seed)


def number_of(returned: Any, name: str) -> float:
    """Return the metric out of what a function returned.

    Raises:
        MetricError: There is no such entry, or it is no number.

    Example:
        >>> number_of({"loss": 0.5, "accuracy": 0.9}, "accuracy"), number_of(torch.tensor(2.0), "")
        (0.9, 2.0)
    """
    if isinstance(returned, Mapping):
        if name and name not in returned:
            raise MetricError(
                f"the function returned {', '.join(map(str, returned)) or 'an empty mapping'}, "
                f"but the metric is {name!r}: name one of those"
            )
        returned = returned[name] if name else next(iter(returned.values()), None)
    try:
        return float(returned)
    except (TypeError, ValueError) as error:
        raise MetricError(
            f"the function returned {type(returned).__name__}, but a number, a mapping of names "
            "to numbers or a gradreach.training.Training was expected"
        ) from error


def outcome_of(error: BaseException) -> Outcome:
    """Tell lack of memory from any other end.

    Example:
        >>> outcome_of(MemoryError()), outcome_of(ValueError("no"))
        ('out-of-memory', 'crashed')
    """
    lacking = isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)
    )
    return "out-of-memory" if lacking else "crashed"


def last_line_of(error: BaseException) -> str:
    """Return the last line of the traceback that Python would print."""
    told = str(error).strip().splitlines()
    return type(error).__name__ + (f": {told[0]}" if told else "")
