"""What could not be measured, and why?"""

from __future__ import annotations

from dataclasses import dataclass

from gradreach.diagnosis.wording import counted
from gradreach.records import GradientFlow
from gradreach.records.finding import Finding

__all__ = ["BlindProbe"]


@dataclass(frozen=True, slots=True)
class BlindProbe:
    """About ourselves: silence about a layer must not be read as its health."""

    code: str = "blind-probe"

    def __call__(self, flow: GradientFlow, *, needs_lag: int | None = None) -> list[Finding]:
        """Return one note for each thing that was not measured."""
        found = [
            self._note(
                f"{spot.module} ({spot.kind}) was not measured: {spot.reason}",
                spot.module,
                f"measure {spot.module} alone, called once on a batch of its own",
                {"reason": spot.reason},
            )
            for spot in flow.blind
        ]
        for name, layer in flow.layers.items():
            if not len(layer.lag_profile):
                found.append(self._without_profile(name, bool(layer.state_gradient_norms.any())))
        measured = [len(layer.lag_profile) for layer in flow.layers.values()]
        judged = [layer.reach() != len(layer.lag_profile) for layer in flow.layers.values()]
        if needs_lag is not None and max(measured) <= needs_lag and not all(judged):
            found.append(self._too_short(max(measured), needs_lag))
        return found

    def explains(self, cause: Finding, symptom: Finding) -> bool:
        """Explain nothing."""
        return False

    def _without_profile(self, name: str, flows: bool) -> Finding:
        if flows:
            reason = "its state is changed between steps (masked, normalised)"
        else:
            reason = "no gradient of the loss arrives at it"
        return self._note(
            f"{name} has no lag profile: {reason}, so that its reach is not known",
            name,
            "leave out what happens to the state between steps, and measure again",
            {"reason": reason},
        )

    def _too_short(self, longest: int, needs_lag: int) -> Finding:
        return self._note(
            f"your task needs {needs_lag} steps, but this batch shows no more than "
            f"{counted(max(longest - 1, 0), 'step')} back: longer lags were not judged",
            None,
            f"measure sequences of more than {needs_lag} steps",
            {"lags": longest, "needs_lag": needs_lag},
        )

    def _note(
        self, cause: str, layer: str | None, check: str, numbers: dict[str, object]
    ) -> Finding:
        return Finding(
            code=self.code,
            severity="note",
            cause=cause,
            layer=layer,
            numbers=numbers,
            counter_check=check,
        )
