"""What a rule is."""

from __future__ import annotations

from typing import Protocol

from gradreach.records import GradientFlow
from gradreach.records.finding import Finding

__all__ = ["Rule", "covers"]


class Rule(Protocol):
    """One question asked of a measured run; it never touches the model.

    Rules compare quantities along time, or relative to one another, never an absolute size of
    a gradient: a verdict must not change with the scale of the loss, the batch size, the dtype
    or the width of the layer.
    """

    @property
    def code(self) -> str:
        """The finding's code, one of :data:`gradreach.diagnosis.order.ORDER`."""

    def __call__(self, flow: GradientFlow, *, needs_lag: int | None = None) -> list[Finding]:
        """Return what was found, one finding for each layer concerned.

        Args:
            flow: The measured run.
            needs_lag: How many steps back the task must look, if the user said so.
        """

    def explains(self, cause: Finding, symptom: Finding) -> bool:
        """Whether ``cause``, a finding of this rule, accounts for a finding of a later one."""


def covers(cause: Finding, symptom: Finding) -> bool:
    """Whether a cause was found in the layer of the symptom.

    A cause that concerns a whole module lists its layers in ``numbers["layers"]``.

    Example:
        >>> told = {"cause": "", "counter_check": "", "severity": "note"}
        >>> cut = Finding(code="truncated-gradient", layer="a.l0",
        ...               numbers={"layers": ["a.l0", "a.l1"]}, **told)
        >>> [covers(cut, Finding(code="vanishing-gradient", layer=layer, **told))
        ...  for layer in ("a.l1", "b.l0")]
        [True, False]
    """
    return symptom.layer in cause.numbers.get("layers", [cause.layer])
