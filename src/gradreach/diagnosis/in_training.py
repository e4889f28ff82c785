"""What a finding of single batches counts beside what the training has achieved."""

from __future__ import annotations

from dataclasses import replace

from gradreach.diagnosis.course import Course
from gradreach.diagnosis.seen_in_samples import arose
from gradreach.records import Finding

__all__ = ["CUT_OFF", "in_training"]

# What keeps the gradient from the past.
CUT_OFF = ("truncated-gradient", "reads-padding", "saturated-units", "closed-gate",
           "vanishing-gradient")  # fmt: skip

PROGRESS = 0.3  # of the loss gone; docs/findings/stagnated-training.md


def in_training(finding: Finding, ran: Course, needs_lag: int | None) -> Finding:
    """Return a batch's finding as it counts beside what the training has achieved.

    A short reach does no harm to a task that is solved, and little to one of which the network
    learned most while it let go of the past; nor does growth that arose so and is not yet large.
    Only if the user said how far the task looks it stays what it was.
    """
    if (
        finding.code not in (*CUT_OFF, "exploding-gradient")
        or finding.severity != "warning"
        or needs_lag is not None
    ):
        return finding
    learned = arose(finding) and 1 - ran.left >= PROGRESS
    solved = ran.solved and finding.code in CUT_OFF
    if not ran.enough or ran.broken is not None or not (solved or learned):
        return finding
    why = "the task is solved with it" if solved else "it arose while the loss fell"
    return replace(finding, severity="note", cause=f"{finding.cause}; {why}")
