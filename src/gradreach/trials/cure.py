"""Diagnoses a training script, tries remedies on it against the untreated control, and judges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from gradreach.records.comparison import Comparison
from gradreach.records.finding import Finding
from gradreach.records.trial import Trial
from gradreach.treatments.facts import RunFacts
from gradreach.treatments.families import treatment_from
from gradreach.treatments.patch import Patch, patch_of
from gradreach.treatments.source_file import NoLineError
from gradreach.trials.choose import MOST, Chosen, choose
from gradreach.trials.conduct import Plan, Pool, conduct
from gradreach.trials.cure_sentence import cure_sentence
from gradreach.trials.cure_verdict import Judged, Verdict, judged
from gradreach.trials.progress import Progress
from gradreach.trials.spec import TrialSpec
from gradreach.trials.standings import meets
from gradreach.trials.study import Study
from gradreach.trials.target import ScriptTarget

__all__ = ["Cure", "cure"]

SCHEMA_VERSION = 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Cure:
    """What ``gradreach cure`` came to.

    Attributes:
        verdict: ``"healthy"``: nothing was found that needs a treatment. ``"cured"``: shown to
            help. ``"better"``: it helped on every seed, but that is not enough to call it a cure;
            the sentence says what is missing. ``"nothing"``: no treatment was shown to help.
            ``"unmeasured"``: the script as it is could not be measured.
        sentence: The same with the numbers.
        diagnosis: The untreated run with the first seed.
        chosen: What was tried, and what was refused or left out.
        comparison: The study; ``None`` where nothing beyond the diagnosis was run.
        winner: Label of the treatment that helped; ``None`` where none did.
        patch: The lines to change; ``None`` where there is no winner, or none can be written.
        notes: Sentences on how it was measured and what is to be known of it.
    """

    verdict: Verdict
    sentence: str
    diagnosis: Trial
    chosen: Chosen
    comparison: Comparison | None
    winner: str | None
    patch: Patch | None
    notes: tuple[str, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found in the untreated run, the gravest first."""
        return self.diagnosis.findings

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data, as ``--json`` prints it."""
        comparison = self.comparison
        trials = (self.diagnosis,) if comparison is None else comparison.trials
        return {
            "schema_version": SCHEMA_VERSION,
            "verdict": self.verdict,
            "sentence": self.sentence,
            "findings": [finding.to_dict() for finding in self.findings],
            "metric": self.diagnosis.meta.get("measured"),
            "held_out": self.diagnosis.held_out,
            "needs_lag": (self.diagnosis.meta.get("facts") or {}).get("needs_lag"),
            "control": None if comparison is None else comparison.control.to_dict(),
            "standings": []
            if comparison is None
            else [standing.to_dict() for standing in comparison.standings],
            "trials": [_brief(trial) for trial in trials],
            "winner": self._winner(),
            "refused": [{"treatment": name, "reason": why} for name, why in self.chosen.refused],
            "not_tried": list(self.chosen.left),
            "cost": {} if comparison is None else comparison.meta["cost"],
            "notes": list(self.notes),
        }

    def _winner(self) -> dict[str, Any] | None:
        if self.winner is None or self.comparison is None:
            return None
        standing = self.comparison[self.winner]
        effect = standing.effect
        return {
            "treatment": self.winner,
            "metric": standing.median,
            "effect": None if effect is None else effect.estimate,
            "interval": None if effect is None else [effect.low, effect.high],
            "cost": standing.relative_cost,
            "patch": None if self.patch is None else str(self.patch),
        }


def cure(
    base: TrialSpec,
    plan: Plan,
    pool: Pool,
    study: Study,
    progress: Progress | None = None,
    *,
    wanted: Sequence[str] = (),
    most: int = MOST,
) -> Cure:
    """Find out what is wrong with a script, and what helps.

    The diagnosis is the control's run with the first seed, so that it costs nothing beside the
    study; a script that needs no treatment is run that once.

    Args:
        base: The untreated trial of the script; its budget is the full one.
        plan: Seeds, finalists, criterion. pool: Where trials run. study: Keeps them.
        progress: Shows them coming.
        wanted: Families or labels of treatments to try; otherwise the findings choose.
        most: How many treatments at most.

    Raises:
        ChoiceError: A name in ``wanted`` is none, or does not fit.
    """
    progress = progress or Progress()
    first = replace(base, seed=plan.seeds[0])
    diagnosis = _run_one(first, pool, study, progress)
    plain = diagnosis.meta.get("facts")
    asking = [finding for finding in diagnosis.findings if finding.severity != "note"]
    if plain is None or (diagnosis.outcome in BROKEN and not asking):
        return _ended("unmeasured", diagnosis)
    missed = plan.criterion is not None and not meets(
        diagnosis.metric, plan.criterion, base.metric.direction
    )
    if not asking and not missed and diagnosis.finished and not wanted:
        return _ended("healthy", diagnosis)
    if plan.criterion is not None and not missed and _always_met(base, plan, pool, study, progress):
        return _ended("healthy", diagnosis)
    facts = RunFacts.from_dict(plain)
    chosen = choose(_asking(diagnosis, missed, facts), facts, wanted=wanted, most=most)
    if not chosen.treatments:
        return _ended("nothing", diagnosis, chosen)
    comparison = conduct(base, chosen.treatments, plan, pool, study, progress)
    verdict = judged(comparison, diagnosis)
    return Cure(
        verdict=verdict.verdict,
        sentence=cure_sentence(verdict, diagnosis, comparison),
        diagnosis=diagnosis,
        chosen=chosen,
        comparison=comparison,
        winner=verdict.winner,
        **_patched(verdict, facts, base, diagnosis),
    )


# Where a goal is missed and nothing is wrong to be seen, what helps most trainings is tried.
MISSED = Finding(
    code="target-missed", severity="warning", cause="the target is missed",
    counter_check="a longer training of the same kind meets it",
    remedies=("learning_rate", "gating", "clipping", "initialization"),
)  # fmt: skip
# A state cut between windows is no fault; where something is wrong, it may be that they are short.
CUT = Finding(
    code="state-detached", severity="warning", cause="the state is cut off its graph",
    counter_check="longer windows change nothing", remedies=("truncation",),
)  # fmt: skip
BROKEN = ("crashed", "out-of-memory", "timed-out")


def _run_one(spec: TrialSpec, pool: Pool, study: Study, progress: Progress) -> Trial:
    """Return one trial, run if it has no result yet."""

    def told(spec: TrialSpec, trial: Trial | None) -> None:
        if trial is None:
            progress.begin(spec)
        else:
            progress.end(spec, trial, 1.0)

    if study.result_of(spec) is None:  # how much there is to do is known only afterwards
        pool.run([spec], study, told, progress.tick)
    found = study.result_of(spec)
    assert found is not None, "a pool returns when every trial has its result"
    return found


def _always_met(base: TrialSpec, plan: Plan, pool: Pool, study: Study, progress: Progress) -> bool:
    """Whether the untreated script meets the criterion on every seed."""
    control = conduct(base, [], plan, pool, study, progress).control
    return control.met == control.seeds


def _asking(diagnosis: Trial, missed: bool, facts: RunFacts) -> list[Finding]:
    """Return the findings that ask for a treatment; mere notes too where the goal is missed."""
    found = [finding for finding in diagnosis.findings if finding.severity != "note"]
    if missed and not found:
        named = [each for each in diagnosis.findings if each.remedies]
        found = [*(replace(each, severity="warning") for each in named), MISSED]
    if found and facts.detached:
        found.append(CUT)
    return found


def _ended(
    verdict: Literal["healthy", "nothing", "unmeasured"],
    diagnosis: Trial,
    chosen: Chosen | None = None,
) -> Cure:
    """Return what is known where there was nothing to compare."""
    return Cure(
        verdict=verdict,
        sentence=cure_sentence(Judged(verdict), diagnosis, None),
        diagnosis=diagnosis,
        chosen=chosen or Chosen(()),
        comparison=None,
        winner=None,
        patch=None,
        notes=tuple(_notes(diagnosis)),
    )


def _patched(verdict: Judged, facts: RunFacts, base: TrialSpec, diagnosis: Trial) -> dict[str, Any]:
    """Return the patch of the winner, and the notes."""
    notes = [*_notes(diagnosis), *verdict.remarks]
    if verdict.winner is None:
        return {"patch": None, "notes": tuple(notes)}
    treatment = treatment_from(verdict.winner)
    notes.append(f"What else changes with {treatment.label}: {treatment.side_effects}.")
    notes.append(f"Source: {treatment.source}.")
    root = base.target.cwd if isinstance(base.target, ScriptTarget) else None
    try:
        patch = patch_of(treatment.edits(facts.sites), root=root) or None
    except (NoLineError, ValueError, OSError) as error:
        notes.append(f"The lines to change could not be written ({error}): {treatment.describe()}")
        return {"patch": None, "notes": tuple(notes)}
    return {"patch": patch, "notes": tuple(notes)}


def _notes(diagnosis: Trial) -> list[str]:
    meta = diagnosis.meta
    told = []
    if meta.get("measured"):
        held = "held out" if diagnosis.held_out else "not held out"
        if not meta["measured"].startswith("the loss"):
            held = "you named it, and that it tells what counts is taken from you"
        told.append(f"Metric: {meta['measured']} ({held}).")
    lag = (meta.get("facts") or {}).get("needs_lag")
    if lag is not None:
        told.append(f"Lag: you said that the task must look {lag:,} steps back (--needs-lag).")
    if meta.get("seeding"):
        told.append(f"Seeds: {meta['seeding']}.")
    if meta.get("trouble"):
        told.append("gradreach's own watch failed in the diagnosis; please report it.")
    return told


def _brief(trial: Trial) -> dict[str, Any]:
    """Return a trial without what fills pages: its curve and the facts."""
    plain = trial.to_dict()
    for name in ("curve", "steps_of_curve"):
        del plain[name]
    plain["findings"] = list(trial.codes)
    plain["meta"] = {name: value for name, value in plain["meta"].items() if name != "facts"}
    return plain
