"""Another recurrence, whose gates decide what is kept: GRU or LSTM in place of a plain RNN."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from torch import nn
from torch.optim import Optimizer

from gradreach.records.finding import Finding
from gradreach.treatments.edit import Edit
from gradreach.treatments.facts import RunFacts
from gradreach.treatments.interception import Interception
from gradreach.treatments.layer_call import LayerCall
from gradreach.treatments.layer_edits import layer_edits
from gradreach.treatments.sites import Site
from gradreach.treatments.treatment import Treatment, TreatmentError

__all__ = ["Gating"]


@dataclass(frozen=True)
class Gating(Treatment):
    """Put a gated recurrence in the place of a plain one.

    Args:
        cell: ``"GRU"``, whose state has the shape of the RNN's, so that nothing else changes.

    Example:
        >>> import torch
        >>> from gradreach.treatments.interception import Interception
        >>> with Interception() as run:
        ...     Gating("GRU").install(run)
        ...     layer = torch.nn.RNN(2, 8, batch_first=True)
        >>> layer
        GRU(2, 8, batch_first=True)
    """

    family: ClassVar[str] = "gating"
    source: ClassVar[str] = (
        "Cho et al. (2014), arXiv:1406.1078, equations 5 to 8; Hochreiter & Schmidhuber (1997)"
    )
    side_effects: ClassVar[str] = (
        "three times the recurrent weights and about three times the work per step (LSTM: four "
        "times); saved weights of the old layer do not fit any more"
    )

    cell: str = "GRU"

    def __post_init__(self) -> None:
        if self.cell not in ("GRU",):
            raise TreatmentError(
                f"Gating(): argument 'cell' must be 'GRU', got {self.cell!r}; choose one of these"
            )

    def rewrite(self, call: LayerCall) -> LayerCall | None:
        """Return the call of the gated class; ``None`` where the layer is gated already."""
        return call.becoming("gru") if call.kind == "rnn" else None

    def refuses(self, facts: RunFacts) -> str | None:
        """Refuse where there is no plain recurrent layer of torch's own class."""
        if facts.treatable("rnn"):
            return None
        return "there is no plain nn.RNN or nn.RNNCell to replace"

    @classmethod
    def candidates(cls, finding: Finding, facts: RunFacts) -> list[Self]:
        """Propose the GRU."""
        every = [cls("GRU")]
        return [each for each in every if each.applies_to(finding, facts)]

    def install(self, run: Interception) -> None:
        """Build the gated class wherever the plain one is asked for."""
        run.on_layer(self.rewrite)

    def apply(self, model: nn.Module, optimizer: Optimizer | None = None) -> nn.Module:
        """Refuse: the weights of the old layer are none of the new one."""
        raise TreatmentError(
            f"{self.label}.apply(): argument 'model' is built already, and a plain layer has no "
            f"gates to keep its weights in; build it with nn.{self.cell} in place of nn.RNN"
        )

    def edits(self, sites: Sequence[Site]) -> list[Edit]:
        """Name the other class where the layer is built."""
        return layer_edits(self.label, [self.rewrite], sites)

    def describe(self) -> str:
        """Say it in words and code."""
        return (
            f"Replace the plain recurrence by a {self.cell}: write nn.{self.cell}(…) for nn.RNN(…)"
            f" and nn.{self.cell}Cell(…) for nn.RNNCell(…), without `nonlinearity`."
        )
