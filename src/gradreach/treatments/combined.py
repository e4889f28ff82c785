"""Several treatments at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar, Self

from torch import nn
from torch.optim import Optimizer

from gradreach.records.finding import Finding
from gradreach.treatments.call_text import code_of
from gradreach.treatments.edit import Edit
from gradreach.treatments.facts import RunFacts
from gradreach.treatments.interception import Interception
from gradreach.treatments.layer_edits import layer_edits
from gradreach.treatments.layer_treatment import LayerTreatment
from gradreach.treatments.layer_words import layer_words
from gradreach.treatments.lines_before_step import at_top as treated_at_top
from gradreach.treatments.sites import Site
from gradreach.treatments.treatment import Treatment, TreatmentError

__all__ = ["ORDER", "Combined"]

ORDER = (
    "gating", "activation", "residual", "skip", "initialization", "truncation", "regularization",
    "clipping", "learning_rate",
)  # fmt: skip
"""Families in the order in which they act: what a layer is comes before how it starts, and a
regulariser's gradient is clipped like any other."""


@dataclass(frozen=True)
class Combined(Treatment):
    """Treatments that act together, in the order of :data:`ORDER`, whatever order they came in.

    Raises:
        TreatmentError: Two of them conflict; the sentence says why.

    Example:
        >>> from gradreach.treatments.gating import Gating
        >>> Combined((Gating("GRU"),)).label
        'gating(GRU)'
    """

    family: ClassVar[str] = "combined"
    source: ClassVar[str] = "see its parts"
    side_effects: ClassVar[str] = "those of its parts"

    parts: tuple[Treatment, ...]

    def __post_init__(self) -> None:
        flat: list[Treatment] = []
        for part in self.parts:
            flat += part.parts if isinstance(part, Combined) else [part]
        if not flat:
            raise TreatmentError("Combined(): argument 'parts' is empty; give two treatments")
        for one, other in combinations(flat, 2):
            why = one.conflicts(other) or other.conflicts(one)
            if why is not None:
                raise TreatmentError(
                    f"Combined(): {one.label} and {other.label} conflict, as {why}; leave out one"
                )
        flat.sort(key=lambda part: ORDER.index(part.family))
        object.__setattr__(self, "parts", tuple(flat))

    @property
    def label(self) -> str:
        """The parts' labels, in the order in which they act."""
        return " + ".join(part.label for part in self.parts)

    def to_dict(self) -> dict[str, Any]:
        """Return the parts as plain data."""
        return {"treatment": "combined", "parts": [part.to_dict() for part in self.parts]}

    def applies_to(self, finding: Finding, facts: RunFacts) -> bool:
        """Whether one of the parts is worth trying and none refuses."""
        named = any(part.family in finding.remedies for part in self.parts)
        return named and self.refuses(facts) is None

    def refuses(self, facts: RunFacts) -> str | None:
        """Return the first refusal among the parts, each asked of what those before it leave."""
        for part in self.parts:
            why = part.refuses(facts)
            if why is not None:
                return f"{part.label}: {why}"
            facts = part.after(facts)
        return None

    @classmethod
    def candidates(cls, finding: Finding, facts: RunFacts) -> list[Self]:
        """Propose nothing: what belongs together is proposed by its families."""
        return []

    def install(self, run: Interception) -> None:
        """Install the parts in order."""
        for part in self.parts:
            part.install(run)

    def apply(self, model: nn.Module, optimizer: Optimizer | None = None) -> nn.Module:
        """Apply the parts in order."""
        for part in self.parts:
            model = part.apply(model, optimizer)
        return model

    def edits(self, sites: Sequence[Site]) -> list[Edit]:
        """Return the edits of all parts; those of one layer's constructor are made one edit."""
        layers, others = self._kinds()
        label = " + ".join(part.label for part in layers)
        edits = layer_edits(label, [part.rewrite for part in layers], sites) if layers else []
        parts = [part.edits(sites) for part in others]
        at_top = any(map(_is_at_top, others, parts))
        if at_top and len(others) > 1:
            # What puts steps off, say, must be asked by a line that clips before a step as well.
            return edits + treated_at_top(" + ".join(part.label for part in others), sites)
        return edits + [edit for its in parts for edit in its]

    def describe(self) -> str:
        """Say each part in words, and the code of all layers' parts in one."""
        layers, others = self._kinds()
        said = [part.words for part in layers]
        said += [layer_words([part.rewrite for part in layers])] if layers else []
        return " ".join([*said, *(part.describe() for part in others)])

    def _kinds(self) -> tuple[list[LayerTreatment], list[Treatment]]:
        layers = [part for part in self.parts if isinstance(part, LayerTreatment)]
        return layers, [part for part in self.parts if not isinstance(part, LayerTreatment)]

    def conflicts(self, other: Treatment) -> str | None:
        """Return the first conflict of a part."""
        return next((why for why in (p.conflicts(other) for p in self.parts) if why), None)


def _is_at_top(part: Treatment, edits: Sequence[Edit]) -> bool:
    """Whether a part is written as one line that treats the whole script."""
    return any(f"treat({code_of(part.label)})" in edit.replacement for edit in edits)
