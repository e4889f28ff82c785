"""From the history of a training to its findings."""

from __future__ import annotations

from collections.abc import Sequence

from gradreach.diagnosis.absorption import absorbed
from gradreach.diagnosis.course import course
from gradreach.diagnosis.in_training import in_training
from gradreach.diagnosis.order import ORDER, sort_key
from gradreach.diagnosis.seen_in_samples import arose, seen_in_samples
from gradreach.diagnosis.training_rule import TrainingRule
from gradreach.diagnosis.training_rules.exploding_update import ExplodingUpdate
from gradreach.diagnosis.training_rules.ineffective_clipping import IneffectiveClipping
from gradreach.diagnosis.training_rules.learning_rate_too_high import LearningRateTooHigh
from gradreach.diagnosis.training_rules.learning_rate_too_low import LearningRateTooLow
from gradreach.diagnosis.training_rules.nonfinite_training import NonfiniteTraining
from gradreach.diagnosis.training_rules.oscillating_loss import OscillatingLoss
from gradreach.diagnosis.training_rules.short_history import ShortHistory
from gradreach.diagnosis.training_rules.stagnated_training import StagnatedTraining
from gradreach.records import Finding, History

__all__ = ["TRAINING_RULES", "findings_over_training"]

TRAINING_RULES: tuple[TrainingRule, ...] = (
    NonfiniteTraining(),
    IneffectiveClipping(),
    LearningRateTooHigh(),
    LearningRateTooLow(),
    ExplodingUpdate(),
    OscillatingLoss(),
    StagnatedTraining(),
    ShortHistory(),
)

# What follows from a recurrence that expands, with any learning rate.
OF_EXPLOSION = ("exploding-update", "learning-rate-too-high", "oscillating-loss")


def findings_over_training(
    history: History,
    needs_lag: int | None = None,
    *,
    rules: Sequence[TrainingRule] = TRAINING_RULES,
) -> list[Finding]:
    """Say what is wrong with a training: over its course, and in the batches sampled from it.

    Three things stand in the way of blaming the wrong one. What the first sample shows was there
    before any update, so that no learning rate can have made it. What arose later is a symptom of
    updates that are too long, where they are. And a NaN that a loss grew into is the end of the
    growth, not its cause.
    """
    needs_lag = history.needs_lag if needs_lag is None else needs_lag
    ran = course(history)
    of_batches = [in_training(found, ran, needs_lag) for found in seen_in_samples(history)]
    over_time = [found for rule in rules for found in rule(history, needs_lag=needs_lag)]
    by_code = {rule.code: rule for rule in rules}

    def explains(cause: Finding, symptom: Finding) -> bool:
        if "training" in cause.numbers:  # seen in the samples
            return _batch_explains(cause, symptom)
        return cause is not symptom and by_code[cause.code].explains(cause, symptom)

    found = sorted([*over_time, *of_batches], key=_place)  # stable: the step before its place
    return sorted(absorbed(found, explains), key=sort_key)


def _place(finding: Finding) -> tuple[int, int]:
    """Return the place in the order of causes; what updates may have made comes behind them."""
    own = ORDER.index(finding.code)
    made = arose(finding) or finding.numbers.get("because") == "divergence"
    return (ORDER.index("oscillating-loss"), own) if made else (own, 0)


def _batch_explains(cause: Finding, symptom: Finding) -> bool:
    """Whether a finding of the sampled batches accounts for one over time."""
    if cause.severity == "note":
        return False
    if symptom.code == "stagnated-training":
        return cause.code in symptom.numbers["causes"]
    if cause.code == "nonfinite-value":
        return symptom.code == cause.code or symptom.code not in ORDER[:2]
    if cause.code != "exploding-gradient":
        return False
    if arose(symptom):
        return not arose(cause)
    made = symptom.numbers.get("because")
    return symptom.code in OF_EXPLOSION or made in ("divergence", "always by a large factor")
