"""What the treatments of recurrent layers share: they rewrite the call that builds the layer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import nn
from torch.optim import Optimizer

from gradreach.nn import convert
from gradreach.treatments.edit import Edit
from gradreach.treatments.facts import RunFacts
from gradreach.treatments.interception import Interception
from gradreach.treatments.layer_call import LayerCall
from gradreach.treatments.layer_edits import layer_edits
from gradreach.treatments.layer_words import layer_words
from gradreach.treatments.sites import Site
from gradreach.treatments.treatment import Treatment, TreatmentError

__all__ = ["LayerTreatment"]

NAMES = {"rnn": "nn.RNN", "gru": "nn.GRU", "lstm": "nn.LSTM"}


class LayerTreatment(Treatment):
    """A treatment that is one more argument of gradreach's layers.

    Class attributes:
        kinds: The recurrences it makes sense for.
        cells: Whether cells (one step, in a loop of the user's own) know it, too.
    """

    kinds: ClassVar[tuple[str, ...]] = ("rnn",)
    cells: ClassVar[bool] = True

    @property
    @abstractmethod
    def remedies(self) -> Mapping[str, Any]:
        """The arguments of gradreach's layers."""

    def fits(self, kind: str, *, cell: bool) -> bool:
        """Whether a layer of this kind is treated."""
        return kind in self.kinds and (self.cells or not cell)

    def rewrite(self, call: LayerCall) -> LayerCall | None:
        """Return the call with the remedies; ``None`` where the layer is left as it is."""
        return call.adding(**self.remedies) if self.fits(call.kind, cell=call.cell) else None

    def refuses(self, facts: RunFacts) -> str | None:
        """Refuse where no layer of a fitting class is there."""
        layers = facts.treatable()
        if any(self.fits(each.kind, cell=each.cell) for each in layers):
            return None
        fitting = " or ".join(NAMES[kind] for kind in self.kinds)
        if any(each.kind in self.kinds for each in layers):
            return f"a cell called step by step sees one earlier state only; it takes {fitting}"
        left = next((each.left for each in facts.layers if each.left), "")
        found = f" (the layer is {left})" if left else ""
        if not facts.layers:
            found = " (a recurrence that is written out has no constructor to intercept)"
        return f"there is no {fitting} that could be built otherwise{found}"

    def install(self, run: Interception) -> None:
        """Build the layer with the remedies wherever torch's is asked for."""
        run.on_layer(self.rewrite)

    def apply(self, model: nn.Module, optimizer: Optimizer | None = None) -> nn.Module:
        """Swap the layers for ours, which keep their weights; see `gradreach.nn.convert`.

        Parameters that a remedy adds are given to the optimizer as a group of its own.

        Raises:
            TreatmentError: No layer of the model can be treated so.
        """
        before = {id(each) for each in model.parameters()}
        try:
            treated = convert(model, **self.remedies)
        except (TypeError, ValueError) as error:
            raise TreatmentError(f"{self.label}.apply(): argument 'model': {error}") from error
        fresh = [each for each in treated.parameters() if id(each) not in before]
        if optimizer is not None and fresh:
            optimizer.add_param_group({"params": fresh})
        return treated

    def edits(self, sites: Sequence[Site]) -> list[Edit]:
        """Add the arguments where the layer is built."""
        return layer_edits(self.label, [self.rewrite], sites)

    def describe(self) -> str:
        """Say it in words and code."""
        return f"{self.words} {layer_words([self.rewrite])}"

    @property
    @abstractmethod
    def words(self) -> str:
        """One sentence for the reader: what it does."""
