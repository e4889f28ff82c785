"""What a rule over training is."""

from __future__ import annotations

from typing import Protocol

from gradreach.records import History
from gradreach.records.finding import Finding

__all__ = ["TrainingRule"]


class TrainingRule(Protocol):
    """One question asked of a watched training; it never touches the model.

    As with :class:`gradreach.diagnosis.rule.Rule` nothing has a size of its own: losses are
    compared with the loss at the start, updates with the weights and with one another, so that
    a verdict is the same whatever the loss is multiplied by.
    """

    @property
    def code(self) -> str:
        """The finding's code, one of :data:`gradreach.diagnosis.order.ORDER`."""

    def __call__(self, history: History, *, needs_lag: int | None = None) -> list[Finding]:
        """Return what was found in the training, one finding at most for each kind of it.

        Args:
            history: The watched training, over or still running.
            needs_lag: How many steps back the task must look, if the user said so.
        """

    def explains(self, cause: Finding, symptom: Finding) -> bool:
        """Whether ``cause``, a finding of this rule, accounts for another one."""
