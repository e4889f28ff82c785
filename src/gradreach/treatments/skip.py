"""Connections that jump over several steps of the recurrence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from gradreach.records.finding import Finding
from gradreach.treatments.facts import RunFacts
from gradreach.treatments.layer_call import LayerCall
from gradreach.treatments.layer_treatment import LayerTreatment
from gradreach.treatments.treatment import TreatmentError

__all__ = ["Skip", "lag_to_bridge"]


@dataclass(frozen=True)
class Skip(LayerTreatment):
    """Add the state of ``lag`` steps ago to each new state.

    Args:
        lag: How far a connection jumps, 2 or more.
        weight: Factor of what is added, or ``"learned"``.

    Example:
        >>> Skip(10).label, Skip(10, weight=0.5).label
        ('skip(lag=10)', 'skip(lag=10, weight=0.5)')
    """

    family: ClassVar[str] = "skip"
    source: ClassVar[str] = (
        "Zhang et al. (2016), arXiv:1602.08210, section 3.2; El Hihi & Bengio (1995)"
    )
    side_effects: ClassVar[str] = (
        "the state is a sum over earlier states, so that its size grows with the number of jumps "
        "in a sequence; the lags before the first jump gain nothing"
    )
    kinds: ClassVar[tuple[str, ...]] = ("rnn", "gru", "lstm")
    cells: ClassVar[bool] = False

    lag: int
    weight: float | str = 1.0

    def __post_init__(self) -> None:
        if type(self.lag) is not int or self.lag < 2:
            raise TreatmentError(
                f"Skip(): argument 'lag' must be 2 steps or more, got {self.lag!r}; a jump of one "
                "step is Residual()"
            )
        number = isinstance(self.weight, int | float) and math.isfinite(self.weight)
        if self.weight != "learned" and not number:
            raise TreatmentError(
                f"Skip(): argument 'weight' must be a number or 'learned', got {self.weight!r}"
            )

    @property
    def remedies(self) -> Mapping[str, Any]:
        """The argument ``skip``, and its weight where that is not 1."""
        given: dict[str, Any] = {"skip": self.lag}
        return given if self.weight == 1.0 else {**given, "skip_weight": self.weight}

    def rewrite(self, call: LayerCall) -> LayerCall | None:
        """Return the call with the connections; ``None`` for a projected LSTM, too."""
        return None if call.arguments.get("proj_size") else super().rewrite(call)

    def refuses(self, facts: RunFacts) -> str | None:
        """Refuse also sequences that are not longer than the jump, and projected states."""
        why = super().refuses(facts)
        if why is not None:
            return why
        if all(each.proj_size for each in facts.treatable(*self.kinds)):
            return "an LSTM with proj_size is computed by torch's own kernel, which knows no skips"
        if facts.sequence_steps is not None and facts.sequence_steps <= self.lag:
            return f"its sequences have {facts.sequence_steps} steps, no more than the jump"
        return None

    @classmethod
    def candidates(cls, finding: Finding, facts: RunFacts) -> list[Self]:
        """Propose jumps so long that what is needed lies within the reach that is there."""
        lag = lag_to_bridge(finding, facts)
        if lag is None:
            return []
        every = [cls(lag)] + ([cls(2 * lag)] if 4 * lag <= (facts.lag or 0) else [])
        return [each for each in every if each.applies_to(finding, facts)]

    @property
    def words(self) -> str:
        """What it does."""
        return f"Add the state of {self.lag} steps ago to each new state."


def lag_to_bridge(finding: Finding, facts: RunFacts) -> int | None:
    """Return how far a connection must jump, so that the task's lag takes few enough of them.

    A recurrence that reaches R steps reaches R·s with jumps of s; half of R leaves room, as the
    jumps do not all land where they should.

    Example:
        >>> from gradreach.treatments.facts import RunFacts
        >>> found = Finding(code="vanishing-gradient", severity="warning", cause="", layer="rnn",
        ...                 counter_check="", numbers={"reach": 20}, remedies=("skip",))
        >>> lag_to_bridge(found, RunFacts(sequence_steps=150))
        15
    """
    needed = facts.lag
    if needed is None or needed < 4:
        return None
    reach = finding.numbers.get("reach")
    hops = max(2.0, reach / 2) if isinstance(reach, int | float) else 10.0
    return int(min(max(2, math.ceil(needed / hops)), needed // 2))
