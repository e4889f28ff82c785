"""The order of findings: a cause before its symptoms."""

from __future__ import annotations

from gradreach.records.finding import SEVERITIES, Finding

__all__ = ["ORDER", "sort_key"]

# Seen in one batch first, then what only a training shows, then what we could not see. Among
# those of one batch each can produce the ones after it: a NaN poisons everything, a cut path, a
# wrong read, dead or saturated units and closed gates all look like a vanished gradient.
ORDER = (
    "nonfinite-value",
    "growing-graph",
    "truncated-gradient",
    "reads-padding",
    "dead-units",
    "saturated-units",
    "closed-gate",
    "exploding-gradient",
    "vanishing-gradient",
    "ineffective-clipping",
    "learning-rate-too-high",
    "learning-rate-too-low",
    "exploding-update",
    "oscillating-loss",
    "stagnated-training",
    "blind-probe",
)


def sort_key(finding: Finding) -> tuple[int, int]:
    """Return the place of a finding in a list: by severity, then cause before symptom.

    Example:
        >>> told = {"cause": "", "counter_check": ""}
        >>> dead = Finding(code="dead-units", severity="warning", **told)
        >>> blind = Finding(code="vanishing-gradient", severity="error", **told)
        >>> [finding.code for finding in sorted([dead, blind], key=sort_key)]
        ['vanishing-gradient', 'dead-units']
    """
    return SEVERITIES.index(finding.severity), ORDER.index(finding.code)
