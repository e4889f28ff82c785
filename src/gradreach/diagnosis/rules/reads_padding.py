"""Does the loss read steps at which the sequence has already ended?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradreach.diagnosis.rule import covers
from gradreach.diagnosis.time_axes import time_axes
from gradreach.diagnosis.wording import counted, percent
from gradreach.records import GradientFlow, LayerFlow
from gradreach.records.finding import Finding

__all__ = ["ReadsPadding"]


@dataclass(frozen=True, slots=True)
class ReadsPadding:
    """Rows that end in a constant tail of different lengths, where the loss gradient enters.

    Args:
        gradient_share: Least share of the arriving loss gradient that enters inside the tails.
        one_value: Least share of the tails that end in one and the same input.
        elsewhere: Most of the steps outside the tails that may have that input: more of them
            and it is a value of the data (silence, a repeated symbol), not padding.

    The source of each: docs/findings/reads-padding.md.
    """

    code: str = "reads-padding"
    gradient_share: float = 0.5
    one_value: float = 0.9
    elsewhere: float = 0.1

    def __call__(self, flow: GradientFlow, *, needs_lag: int | None = None) -> list[Finding]:
        """Return one finding for each time axis concerned; its first layer reads the input."""
        return [
            self._found(names, flow.layers[names[0]])
            for names in time_axes(flow).values()
            if self._reads_padding(flow.layers[names[0]])
        ]

    def explains(self, cause: Finding, symptom: Finding) -> bool:
        """Explain a short reach: it is counted from the end of the padding."""
        return symptom.code == "vanishing-gradient" and covers(cause, symptom)

    def _reads_padding(self, layer: LayerFlow) -> bool:
        if not layer.tail_gradient_share >= self.gradient_share:  # NaN: no gradient at all
            return False
        tails = layer.lengths - layer.constant_tails
        if len(np.unique(layer.constant_tails[tails > 0])) < 2:
            return False  # all end at once: a pause that the task has, not padding
        return self._looks_like_padding(layer)

    def _looks_like_padding(self, layer: LayerFlow) -> bool:
        """Whether the tails hold one value that the data itself hardly has."""
        return (
            layer.tail_one_value >= self.one_value and layer.tail_value_elsewhere <= self.elsewhere
        )

    def _found(self, names: list[str], layer: LayerFlow) -> Finding:
        tails = layer.lengths - layer.constant_tails
        padding = int(np.median(tails[tails > 0]))
        reach = layer.reach()
        crosses = reach is None or reach > padding
        lost = "" if crosses else (
            f", and less than 1 % of the gradient gets through the padding (reach {reach})"
        )  # fmt: skip
        return Finding(
            code=self.code,
            # An error where the loss of a typical row never sees that row's data.
            severity="warning" if crosses else "error",
            cause=f"{percent(layer.tail_gradient_share)} of the loss gradient enters behind the "
            f"end of the sequences, up to {counted(int(tails.max()), 'step')} into their padding"
            f"{lost}: read each sequence's own last step (pack_padded_sequence, or gather by "
            "length)",
            layer=names[0],
            steps=(int(layer.constant_tails[tails > 0].min()), layer.steps - 1),
            numbers={
                "gradient_share": float(layer.tail_gradient_share),
                "padded_rows": int((tails > 0).sum()),
                "rows": layer.batch,
                "median_padding": padding,
                "longest_padding": int(tails.max()),
                "reach": reach,
                "layers": names,
            },
            counter_check="put random numbers where the padding is: if the loss does not change, "
            "the padding is not read",
        )
