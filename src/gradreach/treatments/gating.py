"""Another recurrence, whose gates decide what is kept: GRU or LSTM in place of a plain RNN."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import nn
from torch.optim import Optimizer

from gradreach.records.finding import Finding
from gradreach.treatments.facts import RunFacts
from gradreach.treatments.layer_call import LayerCall
from gradreach.treatments.layer_treatment import LayerTreatment
from gradreach.treatments.treatment import Treatment, TreatmentError

__all__ = ["Gating"]

WORTH_A_START = 10  # steps; torch's own start remembers for a few


@dataclass(frozen=True)
class Gating(LayerTreatment):
    """Put a gated recurrence in the place of one with fewer gates.

    The state that the caller passes on keeps its form, so that nothing else changes.

    Args:
        cell: ``"GRU"``, in the place of a plain RNN; or ``"LSTM"``, in the place of a plain RNN or
            a GRU: its state is one tensor that carries the cell state along
            (`gradreach.nn.OneStateLSTM`).

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
        "Hochreiter & Schmidhuber (1997), section 4; Cho et al. (2014), arXiv:1406.1078, "
        "equations 5 to 8"
    )
    side_effects: ClassVar[str] = (
        "three (GRU) or four (LSTM) times the weights and the work per step of a plain RNN; saved "
        "weights of the old layer do not fit any more"
    )

    cell: str = "GRU"

    def __post_init__(self) -> None:
        if self.cell not in ("GRU", "LSTM"):
            raise TreatmentError(
                f"Gating(): argument 'cell' must be 'GRU' or 'LSTM', got {self.cell!r}; choose "
                "one of these"
            )

    @property
    def remedies(self) -> Mapping[str, Any]:
        """None: another class is built."""
        return {}

    def fits(self, kind: str, *, cell: bool) -> bool:
        """Whether a layer of this kind is replaced: one with fewer gates."""
        return kind == "rnn" or (kind == "gru" and self.cell == "LSTM")

    def rewrite(self, call: LayerCall) -> LayerCall | None:
        """Return the call of the gated class; ``None`` where the layer has these gates already."""
        if not self.fits(call.kind, cell=call.cell):
            return None
        if self.cell == "GRU":
            return call.becoming("gru")
        return call.becoming("lstm", one_state=True)

    def after(self, facts: RunFacts) -> RunFacts:
        """Return the facts with the layers replaced."""
        layers = tuple(
            replace(each, kind=self.cell.lower())
            if each.treatable and self.fits(each.kind, cell=each.cell)
            else each
            for each in facts.layers
        )
        return replace(facts, layers=layers)

    @classmethod
    def candidates(cls, finding: Finding, facts: RunFacts) -> list[Treatment]:
        """Propose the GRU first: it has the same memory at three quarters of the cost.

        Where the lag of the task is known, each is proposed with gates that start at it, and
        then as it is: on the adding problem that start made both of two tries learn sooner.
        """
        from gradreach.treatments.families import treatment_from  # it lists this module

        every: list[Treatment] = []
        for cell in ("GRU", "LSTM"):
            plain = cls(cell)
            if facts.lag is not None and facts.lag >= WORTH_A_START:
                start = f"initialization(chrono, max_lag={facts.lag})"
                every.append(treatment_from(f"{plain.label} + {start}"))
            every.append(plain)
        named = cls.family in finding.remedies
        return [each for each in every if named and each.refuses(facts) is None]

    def apply(self, model: nn.Module, optimizer: Optimizer | None = None) -> nn.Module:
        """Refuse: the weights of the old layer are none of the new one."""
        name = "nn.GRU" if self.cell == "GRU" else "gr.nn.OneStateLSTM"
        raise TreatmentError(
            f"{self.label}.apply(): argument 'model' is built already, and the weights of its "
            f"layer are none that gates could keep; build it with {name} in place of nn.RNN"
        )

    def conflicts(self, other: Treatment) -> str | None:
        """Refuse what is about the plain recurrence that would be gone."""
        if isinstance(other, Gating) or not isinstance(other, LayerTreatment):
            return super().conflicts(other)
        if other.fits(self.cell.lower(), cell=False):
            return None
        return f"{other.label} is about a plain RNN, which {self.label} replaces"

    @property
    def words(self) -> str:
        """What it does."""
        return f"Replace the recurrence by that of {'a GRU' if self.cell == 'GRU' else 'an LSTM'}."
