"""``gradreach.compare``: the control and treatments over seeds, on anything that trains."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradreach.errors import GradreachError
from gradreach.records.comparison import Comparison, Direction
from gradreach.treatments.families import treatment_from
from gradreach.treatments.treatment import Treatment
from gradreach.trials.conduct import Plan, conduct
from gradreach.trials.effect import MARGIN
from gradreach.trials.halving import FINALISTS
from gradreach.trials.inline import InlinePool
from gradreach.trials.local import LocalPool
from gradreach.trials.metric import Metric
from gradreach.trials.pools import pool_for
from gradreach.trials.progress import progress_for
from gradreach.trials.spec import TrialSpec
from gradreach.trials.study import opened_study
from gradreach.trials.target import FunctionTarget, target_of

if TYPE_CHECKING:
    from gradreach.trials.ray_cluster import RayPool

__all__ = ["CompareError", "compare"]


class CompareError(GradreachError, ValueError):
    """An argument of :func:`compare` is not what it has to be."""


def compare(
    build: Callable[..., Any],
    treatments: Sequence[Treatment | str],
    *,
    seeds: int | Sequence[int] = 3,
    kwargs: Mapping[str, Any] | None = None,
    metric: str = "",
    direction: Direction = "minimize",
    criterion: float | None = None,
    jobs: int = 1,
    ray: str | None = None,
    study: str | Path | None = None,
    threads: int = 1,
    timeout: float | None = None,
    memory: int | None = None,
    finalists: int = FINALISTS,
    margin: float = MARGIN,
    progress: bool | None = None,
) -> Comparison:
    """Train without treatment and with each of some, over the same seeds, and compare.

    The untreated control is always run. Each trial is a fresh process with a seed of its own, so
    that the table is the same with any number of jobs and on a cluster. With more treatments
    than finalists, short trials choose who gets the full budget; control and finalists always
    get all of it.

    Args:
        build: ``build(seed, **kwargs)`` makes model and optimizer and returns a
            :class:`gradreach.Training`, which is run and can be cut short; or it trains by itself
            and returns the metric, as a number or among numbers by name. Treatments are carried
            out on what it builds; it must build it when it is called. A function at the top of a
            module or script (below it, ``if __name__ == "__main__":``) runs in fresh processes;
            any other, in a notebook say, one after the other in this process.
        treatments: Names (``"gating(GRU)"``, ``"clipping(norm=1.0)"``) or treatments.
        seeds: How many, from 0, or which.
        kwargs: Further arguments of ``build``: plain data.
        metric: Which of the numbers, where there are several; the first by default. Without any,
            the mean training loss of the last tenth of the steps.
        direction: ``"minimize"`` or ``"maximize"``.
        criterion: The metric at which the task counts as learned.
        jobs: Trials at a time.
        ray: ``"auto"`` or the address of a Ray cluster to run them on instead.
        study: Folder that keeps the results. Called again with it, only what is missing is run.
        threads: Of each trial: part of what a trial is, as sums depend on it.
        timeout: Seconds for a trial. memory: Bytes for a trial, beyond those of an empty one.
        finalists: How many treatments get the full budget.
        margin: Share of the control's metric that a treatment must gain to be called better.
        progress: Show how it goes on standard error; by default on a terminal only.

    Raises:
        CompareError: An argument is out of its range.
        TargetError: ``kwargs`` is no plain data.
        TreatmentError: There is no treatment of that name.
        StudyError: The folder cannot be used, or another process uses it.

    Cost:
        The full trainings are ``(finalists + 1) × seeds``; the short trials together take at
        most half as many steps as those.

    Example:
        >>> def build(seed):
        ...     model = torch.nn.RNN(1, 4)
        ...     batch = torch.ones(5, 2, 1), torch.full((2,), float(seed))
        ...     return gradreach.Training(
        ...         model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.0),
        ...         batches=[batch], steps=4,
        ...         loss=lambda model, batch: (model(batch[0])[0][-1].mean(-1) - batch[1]).square()
        ...                                   .mean())
        >>> import gradreach, torch
        >>> comparison = gradreach.compare(build, ["clipping(norm=1.0)"], seeds=2)
        >>> print(comparison.sentence)
        clipping(norm=1.0) did not help: it was not shown to make the loss better than the
        control's over 2 seeds (×1 [1, 1], 95% interval).
    """
    if not callable(build):
        raise CompareError(
            f"compare(): argument 'build' must be a function of the seed; got "
            f"{type(build).__name__}: pass the function itself, not what it returns"
        )
    chosen = [treatment_from(each) for each in treatments]
    plan = Plan(
        seeds=_seeds(seeds), finalists=finalists, criterion=_finite("criterion", criterion),
        margin=margin,
    )  # fmt: skip
    target = target_of(build, kwargs or {})
    base = TrialSpec(
        target=target or _only_here(build, kwargs or {}),
        seed=plan.seeds[0],
        threads=threads,
        metric=Metric(kind="returned", pattern=metric, direction=direction),
        timeout=timeout,
        memory=memory,
    )
    with contextlib.ExitStack() as stack:
        pool: InlinePool | LocalPool | RayPool
        if target is None:
            _refuse_elsewhere(build, jobs=jobs, ray=ray, timeout=timeout, memory=memory)
            pool = InlinePool(partial(build, **(kwargs or {})))
        else:
            pool = pool_for(jobs, threads, ray)
        stack.callback(pool.close)
        kept = stack.enter_context(opened_study(study, base))
        shown = stack.enter_context(progress_for(progress))
        try:
            return conduct(base, chosen, plan, pool, kept, shown)
        except KeyboardInterrupt:
            if kept.lasts:
                shown.say(
                    f"Interrupted. What has ended is kept in '{kept.path}': the same command again "
                    "runs what is missing."
                )
            raise


def _seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    if isinstance(seeds, bool) or (isinstance(seeds, int) and seeds < 1):
        raise CompareError(
            f"compare(): argument 'seeds' must be how many, at least 1, or which; got {seeds!r}: "
            "such as seeds=3"
        )
    return tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)


def _finite(name: str, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise CompareError(f"compare(): argument '{name}' must be a finite number; got {value}")
    return value


def _only_here(build: Callable[..., Any], kwargs: Mapping[str, Any]) -> FunctionTarget:
    """Name a function that only this process has; nobody will look for it."""
    name = getattr(build, "__qualname__", type(build).__name__)
    return FunctionTarget(
        module="", qualname=name, file="", kwargs=dict(kwargs), cwd=str(Path.cwd())
    )


def _refuse_elsewhere(
    build: Callable[..., Any], *, jobs: int, ray: str | None, **limits: Any
) -> None:
    asked = [f"ray={ray!r}"] if ray is not None else []
    asked += [f"jobs={jobs}"] if jobs != 1 else []
    asked += [f"{name}={value!r}" for name, value in limits.items() if value is not None]
    if asked:
        name = getattr(build, "__qualname__", type(build).__name__)
        raise CompareError(
            f"compare(): {asked[0]} needs fresh processes, but no other process can import "
            f"'{name}': define it at the top of a module or script"
        )
