"""Conducts a study: the control, rungs of short trials, the finalists, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from gradreach.errors import GradreachError
from gradreach.records.comparison import Comparison
from gradreach.records.trial import CONTROL, Trial
from gradreach.trials.effect import MARGIN
from gradreach.trials.halving import FINALISTS, Rung, kept_at, rungs_of
from gradreach.trials.metric import Metric
from gradreach.trials.progress import Progress
from gradreach.trials.spec import TrialSpec
from gradreach.trials.standings import standings_of
from gradreach.trials.study import Study
from gradreach.trials.verdict import sentence_of, winner_of

__all__ = ["Plan", "PlanError", "Pool", "Remedy", "conduct"]


class PlanError(GradreachError, ValueError):
    """A study cannot be planned like that."""


class Remedy(Protocol):
    """What a study needs to know of a treatment."""

    @property
    def label(self) -> str:
        """Its canonical name, unique in the study."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, from which a trial's process makes it again."""


class Pool(Protocol):
    """Whatever runs trials: this machine, a cluster, this process."""

    def run(
        self,
        specs: Sequence[TrialSpec],
        study: Study,
        told: Callable[[TrialSpec, Trial | None], None],
        tick: Callable[[], None],
    ) -> None:
        """Run trials until each has a result in the study."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a study is conducted.

    Attributes:
        seeds: Of the control and of every finalist.
        finalists: Treatments that get the full budget; of more, short trials choose.
        criterion: The metric at which the task counts as learned.
        margin: Share of the control's metric that a treatment must gain to be called better.
        steps: Optimizer steps of a full training, if known; else those of the control.
        halving: ``False``: every treatment gets the full budget.

    Raises:
        PlanError: There is no seed, one is named twice, or no finalist is wanted.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    finalists: int = FINALISTS
    criterion: float | None = None
    margin: float = MARGIN
    steps: int | None = None
    halving: bool = True

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise PlanError(
                "compare(): argument 'seeds' must be at least one number, none twice; got "
                f"{list(self.seeds)}"
            )
        if self.finalists < 1:
            raise PlanError(
                f"compare(): argument 'finalists' must be at least 1; got {self.finalists}"
            )
        if not 0 <= self.margin < 1:
            raise PlanError(
                f"compare(): argument 'margin' must be a share in 0 … 1; got {self.margin}"
            )


def conduct(
    base: TrialSpec,
    treatments: Sequence[Remedy],
    plan: Plan,
    pool: Pool,
    study: Study,
    progress: Progress,
) -> Comparison:
    """Run what is missing of a study, and compare.

    Args:
        base: The untreated trial, with any seed; its budget is the full one.
        treatments: What is tried, the most likely first.
        plan: How. pool: Where. study: Keeps the results. progress: Shows them coming.

    Raises:
        PlanError: Two treatments have one label.
        KeyboardInterrupt: As it came; what has ended until then is kept.
    """
    return _Conduct(base, treatments, plan, pool, study, progress).comparison()


class _Conduct:
    def __init__(
        self,
        base: TrialSpec,
        treatments: Sequence[Remedy],
        plan: Plan,
        pool: Pool,
        study: Study,
        progress: Progress,
    ) -> None:
        self.plan, self.pool, self.study, self.progress = plan, pool, study, progress
        self.base = base
        self.specs: dict[str, TrialSpec] = {CONTROL: base}
        for each in treatments:
            if each.label in self.specs:
                raise PlanError(
                    f"compare(): argument 'treatments' names '{each.label}' twice: name each once"
                    if each.label != CONTROL
                    else "compare(): the control is always run: leave it out of 'treatments'"
                )
            self.specs[each.label] = replace(base, label=each.label, treatment=each.to_dict())
        self.trials: list[Trial] = []
        self.steps = plan.steps or 0
        self.dropped: dict[str, int] = {}

    def comparison(self) -> Comparison:
        labels = [label for label in self.specs if label != CONTROL]
        self._expect(len(labels))
        short = self.plan.halving and len(labels) > self.plan.finalists
        # Without rungs nothing waits for the control: all cores are used from the first moment.
        full = self._run([CONTROL] if short else [CONTROL, *labels], self.base.budget)
        _refuse_fault(full[CONTROL])
        rungs: list[Rung] = []
        if short:
            rungs = self._rungs(len(labels), full[CONTROL])
            for rung in rungs:
                labels = self._climb(labels, rung, full[CONTROL])
            full |= self._run(labels, self.base.budget)
        return self._concluded(full, rungs)

    def _rungs(self, treatments: int, control: Sequence[Trial]) -> list[Rung]:
        """Plan the rungs; none where a training cannot be cut short."""
        plan = self.plan
        self.steps = plan.steps or max(trial.steps for trial in control)
        if self.steps < 2 or any(trial.meta.get("whole") for trial in control):
            self.progress.say(
                "The training counts no optimizer steps that it could be cut at: every treatment "
                "gets the full budget."
            )
            self.progress.expect((1 + treatments) * len(plan.seeds))
            return []
        return rungs_of(treatments, len(plan.seeds), self.steps, plan.finalists)

    def _climb(self, labels: list[str], rung: Rung, control: Sequence[Trial]) -> list[str]:
        found = self._run(labels, rung.budget, self.plan.seeds[: rung.seeds])
        direction = self.base.metric.direction
        kept = kept_at(found, control, direction, rung.kept, self.plan.margin)
        gone = [label for label in labels if label not in kept]
        self.dropped |= dict.fromkeys(gone, rung.budget)
        self.progress.say(f"After {rung.budget:,} steps, followed no further: {', '.join(gone)}.")
        return kept

    def _run(
        self, labels: Sequence[str], budget: int | None, seeds: Sequence[int] | None = None
    ) -> dict[str, list[Trial]]:
        """Return the trials of some treatments, those run that have no result yet."""
        wanted = [
            replace(self.specs[label], budget=budget, seed=seed)
            # Seed by seed: a study that is broken off has compared everything on some seeds.
            for seed in (self.plan.seeds if seeds is None else seeds)
            for label in labels
        ]
        missing = self.study.missing(wanted)
        for reason in self.study.broken:
            self.progress.say(f"Run again: {reason}.")
        self.study.broken.clear()
        for spec in wanted:
            if spec not in missing:
                self.progress.kept(spec, self._work(budget))
        if missing:
            self.pool.run(missing, self.study, self._told, self.progress.tick)
        found: dict[str, list[Trial]] = {label: [] for label in labels}
        for spec in wanted:
            trial = self.study.result_of(spec)
            assert trial is not None, "a pool returns when every trial has its result"
            found[spec.label].append(trial)
            self.trials.append(trial)
        return found

    def _told(self, spec: TrialSpec, trial: Trial | None) -> None:
        if trial is None:
            self.progress.begin(spec)
        else:
            self.progress.end(spec, trial, self._work(spec.budget))

    def _work(self, budget: int | None) -> float:
        """Return a trial's part of a full training."""
        if budget == self.base.budget or budget is None or not self.steps:
            return 1.0
        return budget / self.steps

    def _expect(self, treatments: int) -> None:
        """Tell how many full trainings the study amounts to, as far as that is known."""
        seeds, work = len(self.plan.seeds), 1000
        if not self.plan.halving or treatments <= self.plan.finalists:
            self.progress.expect((1 + treatments) * seeds)
            return
        short, left = 0.0, treatments
        for rung in rungs_of(treatments, seeds, work, self.plan.finalists):
            short += left * rung.seeds * rung.budget / work
            left = rung.kept
        self.progress.expect((1 + self.plan.finalists) * seeds + short)

    def _concluded(self, full: Mapping[str, Sequence[Trial]], rungs: Sequence[Rung]) -> Comparison:
        metric, plan = self.base.metric, self.plan
        name = _name_of(metric, full[CONTROL])
        standings = standings_of(full, self.dropped, metric.direction, plan.criterion, plan.margin)
        winner = winner_of(standings)
        return Comparison(
            metric=name,
            direction=metric.direction,
            criterion=plan.criterion,
            trials=tuple(self.trials),
            standings=standings,
            winner=None if winner is None else winner.treatment,
            sentence=sentence_of(name, standings, winner),
            meta={
                "seeds": list(plan.seeds),
                "threads": self.base.threads,
                "budget": self.base.budget,
                "steps": self.steps or max((t.steps for t in full[CONTROL]), default=0),
                "rungs": [vars(rung) for rung in rungs],
                "cost": self._cost(full),
                "study": str(self.study.path),
            },
        )

    def _cost(self, full: Mapping[str, Sequence[Trial]]) -> dict[str, float]:
        """Return what the study cost, beside what its full runs alone did."""
        complete = [trial for trials in full.values() for trial in trials]
        return {
            "trials": len(self.trials),
            "steps": sum(trial.steps for trial in self.trials),
            "steps_of_full_runs": sum(trial.steps for trial in complete),
            "seconds": sum(trial.seconds for trial in self.trials),
            "seconds_of_full_runs": sum(trial.seconds for trial in complete),
        }


def _name_of(metric: Metric, control: Sequence[Trial]) -> str:
    """Return the metric's name: as it was asked for, else as the training itself calls it."""
    told = next((str(t.meta["metric"]) for t in control if t.meta.get("metric")), "")
    return metric.name if metric.pattern or not told else told


def _refuse_fault(control: Sequence[Trial]) -> None:
    """Tell the caller what no treatment could change: there is no number to compare by."""
    for trial in control:
        if trial.meta.get("fault"):
            raise PlanError(f"compare(): {trial.meta['fault']}")
