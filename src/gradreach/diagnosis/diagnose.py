"""Asks every rule, and lets a cause absorb its symptoms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradreach.diagnosis.absorption import absorbed
from gradreach.diagnosis.order import ORDER, sort_key
from gradreach.diagnosis.over_training import findings_over_training
from gradreach.diagnosis.rule import Rule
from gradreach.diagnosis.rules.blind_probe import BlindProbe
from gradreach.diagnosis.rules.closed_gate import ClosedGate
from gradreach.diagnosis.rules.dead_units import DeadUnits
from gradreach.diagnosis.rules.exploding_gradient import ExplodingGradient
from gradreach.diagnosis.rules.nonfinite_value import NonfiniteValue
from gradreach.diagnosis.rules.reads_padding import ReadsPadding
from gradreach.diagnosis.rules.saturated_units import SaturatedUnits
from gradreach.diagnosis.rules.truncated_gradient import TruncatedGradient
from gradreach.diagnosis.rules.vanishing_gradient import VanishingGradient
from gradreach.records import Finding, GradientFlow, History

__all__ = ["RULES", "diagnose"]

RULES: tuple[Rule, ...] = (
    NonfiniteValue(),
    TruncatedGradient(),
    ReadsPadding(),
    DeadUnits(),
    SaturatedUnits(),
    ClosedGate(),
    ExplodingGradient(),
    VanishingGradient(),
    BlindProbe(),
)


def diagnose(
    record: GradientFlow | History, needs_lag: int | None = None, *, rules: Sequence[Rule] = RULES
) -> list[Finding]:
    """Say what is wrong with the gradient flow of a measured batch, or with a watched training.

    The list begins with the worst; among equals a cause stands before its symptom. A symptom
    that a cause accounts for is no finding of its own: it is carried in the cause's
    ``numbers["explains"]``, and the cause takes over its severity where that is worse. An empty
    list, or one of notes only, means that this record shows no problem.

    Of a training it says what its course shows (``stagnated-training``, ``learning-rate-too-high``
    and the like) together with what most of its late samples show of a batch.

    Args:
        record: What :func:`gradreach.measure` returned, the ``history`` of a watched training, or
            either loaded again.
        needs_lag: How many steps back the task must look. Without it a short reach can only be
            a warning: it does no harm to a task that needs less.
        rules: The questions to ask of a batch.

    Raises:
        TypeError: ``record`` is neither.
        ValueError: ``needs_lag`` is not a positive number of steps.

    Cost:
        Milliseconds: rules read the record only.

    Example:
        >>> import torch, gradreach as gr
        >>> _ = torch.manual_seed(0)
        >>> rnn, x = torch.nn.RNN(3, 16, batch_first=True), torch.randn(4, 50, 3)
        >>> flow = gr.measure(rnn, lambda: rnn(x)[0][:, -1].square().mean())
        >>> [(found.code, found.severity) for found in diagnose(flow)]
        [('vanishing-gradient', 'warning')]
        >>> [(found.code, found.severity) for found in diagnose(flow, needs_lag=40)]
        [('vanishing-gradient', 'error')]
        >>> from gradreach.records import History
        >>> (found,) = diagnose(History.of([{"loss": 0.9**step} for step in range(100)]))
        >>> found.code, found.severity, found.numbers["because"]
        ('stagnated-training', 'note', 'solved')
    """
    _check_arguments(record, needs_lag)
    if isinstance(record, History):
        return findings_over_training(record, needs_lag)
    found = [finding for rule in rules for finding in rule(record, needs_lag=needs_lag)]
    found.sort(key=lambda finding: ORDER.index(finding.code))  # stable: layers stay in order
    by_code = {rule.code: rule for rule in rules}

    def explains(cause: Finding, symptom: Finding) -> bool:
        return cause.code != symptom.code and by_code[cause.code].explains(cause, symptom)

    return sorted(absorbed(found, explains), key=sort_key)


def _check_arguments(record: Any, needs_lag: Any) -> None:
    if not isinstance(record, GradientFlow | History):
        raise TypeError(
            "diagnose(): argument 'record' must be a GradientFlow or a History; got "
            f"{type(record).__name__}: pass what gradreach.measure(model, closure) returned, or "
            "the history of a watch"
        )
    whole = isinstance(needs_lag, int) and not isinstance(needs_lag, bool)
    if needs_lag is not None and not (whole and needs_lag >= 1):
        raise ValueError(
            "diagnose(): argument 'needs_lag' must be a number of steps, 1 or more; got "
            f"{needs_lag!r}: leave it out if you do not know how far back the task looks"
        )
