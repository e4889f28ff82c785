"""Is the state cut off the graph inside the forward pass?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradreach.diagnosis.rule import covers
from gradreach.diagnosis.time_axes import time_axes
from gradreach.diagnosis.wording import counted, listed
from gradreach.records import GradientFlow, LayerFlow
from gradreach.records.finding import Finding

__all__ = ["TruncatedGradient"]


@dataclass(frozen=True, slots=True)
class TruncatedGradient:
    """Steps whose entering state was detached: no gradient crosses them.

    A warning, as truncating on purpose looks the same; it becomes an error where the task was
    said to need more than what is left.

    Args:
        held: Share of the uncut stretch over which the gradient must have held above 1 % for
            the cut to be what ends it. ½: docs/findings/truncated-gradient.md.
    """

    code: str = "truncated-gradient"
    held: float = 0.5

    def __call__(self, flow: GradientFlow, *, needs_lag: int | None = None) -> list[Finding]:
        """Return one finding for each time axis that is cut."""
        return [
            self._found(names, flow.layers[names[0]], needs_lag)
            for names in time_axes(flow).values()
            if flow.layers[names[0]].detached_steps
        ]

    def explains(self, cause: Finding, symptom: Finding) -> bool:
        """Explain a reach that ends where the state was cut, not one that ends well before."""
        if symptom.code != "vanishing-gradient" or not covers(cause, symptom):
            return False
        return bool(symptom.numbers["reach"] >= self.held * cause.numbers["longest_reach"])

    def _found(self, names: list[str], layer: LayerFlow, needs_lag: int | None) -> Finding:
        cuts = layer.detached_steps
        longest = _longest_reach(layer)
        gaps = set(np.diff((0, *cuts)).tolist())
        told = f"every {counted(gaps.pop(), 'step')} ({listed(cuts)})" if len(gaps) == 1 \
            and len(cuts) > 1 else f"at {listed(cuts)}"  # fmt: skip
        too_short = needs_lag is not None and longest < needs_lag
        needed = f"; your task needs {needs_lag}" if too_short else ""
        return Finding(
            code=self.code,
            severity="error" if too_short else "warning",
            cause=f"the state is detached {told}: no gradient crosses, so the reach is "
            f"{counted(longest, 'step')} at most{needed}",
            layer=names[0],
            steps=(cuts[0], cuts[-1]),
            numbers={"detached_steps": list(cuts), "longest_reach": longest, "layers": names},
            counter_check=f"differentiate the loss of step {cuts[-1]} alone with respect to the "
            f"input of step {cuts[-1] - 1}: anything but 0 refutes it",
            remedies=("truncation",),
        )


def _longest_reach(layer: LayerFlow) -> int:
    """Return how many steps of the state a single loss step can see, its own included."""
    starts = np.array([0, *layer.detached_steps])
    ends = np.array([*layer.detached_steps, layer.steps]) - 1
    seen = [step - int(starts[starts <= step].max()) + 1 for step in layer.loss_steps]
    return max(seen, default=int((ends - starts).max()) + 1)
