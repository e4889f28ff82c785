"""Runs a function ``build(seed)`` once, treated or not, and tells how it went."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from gradreach.monitor.session import Session
from gradreach.monitor.session_options import SessionOptions
from gradreach.records.plain import Array
from gradreach.records.trial import Outcome, Trial
from gradreach.script.lack_of_memory import says_no_memory
from gradreach.script.losses import TAIL
from gradreach.script.seeding import seed_all
from gradreach.script.trial_cost import TRIAL_COST
from gradreach.training.loop import Trained, Training
from gradreach.treatments.families import treatment_from
from gradreach.treatments.interception import Interception
from gradreach.trials.metric import MetricError
from gradreach.trials.spec import TrialSpec

__all__ = ["last_line_of", "number_of", "outcome_of", "run_function_trial"]

POINTS = 200  # of a curve of losses


def run_function_trial(spec: TrialSpec, build: Callable[..., Any]) -> Trial:
    """Call a function that trains, or that says what is to be trained, in this process.

    What it builds and calls is intercepted for the treatment, and watched: both end with the
    trial. What it raises becomes the trial's outcome.

    Args:
        spec: Which treatment, seed and budget; the target is not looked at.
        build: Given the seed. It returns the metric as a number or among numbers by name, or a
            :class:`gradreach.Training`, which is then run.
    """
    seed_all(spec.seed)
    options = SessionOptions(cost=TRIAL_COST, says_short=False)
    session, interception = Session(None, options, lambda: None), Interception()
    if spec.treatment is not None:
        treatment_from(spec.treatment).install(interception)
    begun = time.perf_counter()
    fault = ""
    with interception:
        session.start()
        try:
            measured = _measured(spec, build)
        except Exception as error:  # noqa: BLE001  whatever it is, it is this trial's outcome
            measured = _Measured(outcome=outcome_of(error), message=last_line_of(error))
            fault = str(error) if isinstance(error, MetricError) else ""
        finally:
            seconds = time.perf_counter() - begun
            session.stop()
    return Trial(
        treatment=spec.label,
        seed=spec.seed,
        budget=spec.budget,
        outcome=measured.outcome,
        metric=measured.metric,
        held_out=measured.held_out,
        steps_of_curve=measured.curve[0],
        curve=measured.curve[1],
        steps=session.watch.steps,
        seconds=max(seconds - session.watch.seconds, 0.0),
        reach=session.last_reach(),
        findings=tuple(session.findings()),
        message=measured.message,
        meta={
            "whole": measured.whole,
            "metric": measured.name,
            "watching_seconds": session.watch.seconds,
            "trouble": session.trouble,
        }
        | ({"fault": fault} if fault else {}),
    )


@dataclass(frozen=True)
class _Measured:
    """What came of the call.

    Attributes:
        whole: It trained by itself, and cannot be cut after some steps.
        name: Of the metric, where it tells one.
    """

    outcome: Outcome = "finished"
    message: str = ""
    metric: float = math.nan
    held_out: bool = False
    curve: tuple[Array, Array] = (np.empty(0), np.empty(0))
    whole: bool = False
    name: str = ""


def _measured(spec: TrialSpec, build: Callable[..., Any]) -> _Measured:
    returned = build(spec.seed)
    wanted = spec.metric.pattern
    if not isinstance(returned, Training):
        named = isinstance(returned, Mapping) and next(iter(returned), None)
        value = number_of(returned, wanted)
        return _judged(_Measured(metric=value, whole=True, name=wanted or str(named or "")))
    if spec.budget is not None:
        returned.steps = min(returned.steps, spec.budget)
    trained = returned.run()
    curve = _curve(trained, wanted)
    if not trained.evaluations:
        return _judged(_Measured(metric=_tail(trained.losses), curve=curve, name="loss"))
    scores = trained.evaluations[-1].scores
    name, value = wanted or next(iter(scores)), number_of(scores, wanted)
    return _judged(_Measured(metric=value, held_out=True, curve=curve, name=name))


def _judged(measured: _Measured) -> _Measured:
    if math.isfinite(measured.metric):
        return measured
    told = f"the metric is {measured.metric}"
    return replace(measured, outcome="nonfinite", message=told, metric=math.nan)


def _curve(trained: Trained, name: str) -> tuple[Array, Array]:
    """Return the metric over the steps: what was evaluated, else the loss in stretches."""
    if trained.evaluations:
        steps = [each.step for each in trained.evaluations]
        values = [number_of(each.scores, name) for each in trained.evaluations]
        return np.array(steps, np.float64), np.array(values, np.float64)
    many = max(1, math.ceil(trained.steps / POINTS))
    begins = range(0, trained.steps, many)
    ends = [min(begin + many, trained.steps) for begin in begins]
    means = [float(np.mean(trained.losses[begin : begin + many])) for begin in begins]
    return np.array(ends, np.float64), np.array(means, np.float64)


def _tail(losses: Array) -> float:
    """Return the mean loss of the last tenth of the run."""
    return (
        float(np.mean(losses[-max(1, math.ceil(TAIL * len(losses))) :]))
        if len(losses)
        else (math.nan)
    )


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
            "to numbers or a gradreach.Training was expected"
        ) from error


def outcome_of(error: BaseException) -> Outcome:
    """Tell lack of memory from any other end.

    Example:
        >>> outcome_of(MemoryError()), outcome_of(ValueError("no"))
        ('out-of-memory', 'crashed')
    """
    lacking = isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and says_no_memory(str(error))
    )
    return "out-of-memory" if lacking else "crashed"


def last_line_of(error: BaseException) -> str:
    """Return the last line of the traceback that Python would print.

    Example:
        >>> last_line_of(KeyError("a"))
        "KeyError: 'a'"
    """
    told = str(error).strip().splitlines()
    return type(error).__name__ + (f": {told[0]}" if told else "")
