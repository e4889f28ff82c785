"""Asks every rule, and lets a cause absorb its symptoms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gradreach.diagnosis.order import ORDER, sort_key
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
from gradreach.records import GradientFlow
from gradreach.records.finding import SEVERITIES, Finding

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
    flow: GradientFlow, needs_lag: int | None = None, *, rules: Sequence[Rule] = RULES
) -> list[Finding]:
    """Say what is wrong with the gradient flow of a measured batch, and why.

    The list begins with the worst; among equals a cause stands before its symptom. A symptom
    that a cause accounts for is no finding of its own: it is carried in the cause's
    ``numbers["explains"]``, and the cause takes over its severity where that is worse. An empty
    list, or one of notes only, means that this batch shows no problem.

    Args:
        flow: What :func:`gradreach.measure` returned, or the record loaded again.
        needs_lag: How many steps back the task must look. Without it a short reach can only be
            a warning: it does no harm to a task that needs less.
        rules: The questions to ask.

    Raises:
        TypeError: ``flow`` is no :class:`gradreach.GradientFlow`.
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
    """
    _check_arguments(flow, needs_lag)
    found = [finding for rule in rules for finding in rule(flow, needs_lag=needs_lag)]
    found.sort(key=lambda finding: ORDER.index(finding.code))  # stable: layers stay in order
    by_code = {rule.code: rule for rule in rules}
    kept: list[Finding] = []
    for symptom in found:
        for place, cause in enumerate(kept):
            if cause.code != symptom.code and by_code[cause.code].explains(cause, symptom):
                kept[place] = _absorbing(cause, symptom)
                break
        else:
            kept.append(symptom)
    return sorted(kept, key=sort_key)


def _absorbing(cause: Finding, symptom: Finding) -> Finding:
    """Return the cause with a symptom among its numbers, and at least as severe as it."""
    told = {
        "code": symptom.code,
        "layer": symptom.layer,
        "severity": symptom.severity,
        "cause": symptom.cause,
        "numbers": dict(symptom.numbers),
    }
    explained = [*cause.numbers.get("explains", ()), told]
    return replace(
        cause,
        severity=min(cause.severity, symptom.severity, key=SEVERITIES.index),
        numbers={**cause.numbers, "explains": explained},
    )


def _check_arguments(flow: Any, needs_lag: Any) -> None:
    if not isinstance(flow, GradientFlow):
        raise TypeError(
            "diagnose(): argument 'flow' must be a GradientFlow; got "
            f"{type(flow).__name__}: pass what gradreach.measure(model, closure) returned"
        )
    whole = isinstance(needs_lag, int) and not isinstance(needs_lag, bool)
    if needs_lag is not None and not (whole and needs_lag >= 1):
        raise ValueError(
            "diagnose(): argument 'needs_lag' must be a number of steps, 1 or more; got "
            f"{needs_lag!r}: leave it out if you do not know how far back the task looks"
        )
