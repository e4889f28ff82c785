"""Whether what was found in a training is what its builder put in."""

from __future__ import annotations

from collections.abc import Sequence

from tests.faults.training.fault import Fault

import gradreach as gr

__all__ = ["alarms", "is_found", "reasons"]


def alarms(findings: Sequence[gr.Finding]) -> list[str]:
    return [finding.code for finding in findings if finding.severity != "note"]


def reasons(finding: gr.Finding) -> list[str | None]:
    """Return why, by the finding itself and by the symptoms that it carries."""
    carried = finding.numbers.get("explains", ())
    return [finding.numbers.get("because"), *(each["numbers"].get("because") for each in carried)]


def is_found(fault: Fault, findings: Sequence[gr.Finding]) -> bool:
    """Whether the expected code stands first, with its reason; a note, without any alarm."""
    if fault.severity == "note":
        told = [found for found in findings if found.code == fault.code]
        return not alarms(findings) and bool(told) and told[0].numbers["because"] == fault.because
    if not alarms(findings):
        return False
    first = findings[0]
    if fault.also is not None and (first.code, first.numbers.get("because")) == fault.also:
        return True
    own = first.numbers.get("because")
    return first.code == fault.code and fault.because in (None, own)
