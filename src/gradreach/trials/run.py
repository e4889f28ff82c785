"""Runs one trial in this process, which is taken to be a fresh one."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from gradreach.records.trial import Trial
from gradreach.script.trial_run import run_script_trial
from gradreach.treatments.families import treatment_from
from gradreach.trials.function_trial import run_function_trial
from gradreach.trials.spec import TrialSpec
from gradreach.trials.target import ScriptTarget

__all__ = ["run_trial"]


def run_trial(spec: TrialSpec, build: Callable[..., Any] | None = None) -> Trial:
    """Train once and tell how it went; what the training raises becomes the trial's outcome.

    Limits of time and memory are for whoever started the process. The number of threads, the
    seeds and the working directory are not put back.

    Args:
        spec: What to train.
        build: The function of its target, where the caller has it; else it is imported.
    """
    torch.set_num_threads(spec.threads)
    if isinstance(spec.target, ScriptTarget):
        trial = _script_trial(spec, spec.target)
    else:
        if build is None:
            build = partial(spec.target.load(), **spec.target.kwargs)
        trial = run_function_trial(spec, build)
    limits = {"threads": spec.threads, "timeout": spec.timeout, "memory": spec.memory}
    return replace(trial, treatment=spec.label, meta={**trial.meta, **limits})


def _script_trial(spec: TrialSpec, target: ScriptTarget) -> Trial:
    """Run a script from where it is run."""
    os.chdir(target.cwd)
    return run_script_trial(
        target.path,
        target.args,
        treatment=None if spec.treatment is None else treatment_from(spec.treatment),
        seed=spec.seed,
        budget=spec.budget,
        metric=spec.metric.kind,
        pattern=spec.metric.pattern,
        maximize=spec.metric.direction == "maximize",
        needs_lag=spec.needs_lag,
    )
