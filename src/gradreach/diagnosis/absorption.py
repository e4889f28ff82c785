"""A cause takes its symptoms in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from gradreach.records.finding import SEVERITIES, Finding

__all__ = ["absorbed"]


def absorbed(
    found: Iterable[Finding], explains: Callable[[Finding, Finding], bool]
) -> list[Finding]:
    """Return the findings without those that one before them accounts for.

    Args:
        found: A cause before its symptoms.
        explains: Whether the first accounts for the second.

    Example:
        >>> told = {"cause": "", "counter_check": "", "severity": "warning"}
        >>> pair = [Finding(code=code, **told) for code in ("dead-units", "vanishing-gradient")]
        >>> (only,) = absorbed(pair, lambda cause, symptom: True)
        >>> only.code, only.explains
        ('dead-units', ('vanishing-gradient',))
    """
    kept: list[Finding] = []
    for symptom in found:
        for place, cause in enumerate(kept):
            if explains(cause, symptom):
                kept[place] = _absorbing(cause, symptom)
                break
        else:
            kept.append(symptom)
    return kept


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
