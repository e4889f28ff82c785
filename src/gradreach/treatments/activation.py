"""Another activation of a plain recurrence, with the start and the clip that it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from gradreach.kernels.activations import activation_of
from gradreach.records.finding import Finding
from gradreach.treatments.facts import RunFacts
from gradreach.treatments.layer_call import LayerCall
from gradreach.treatments.layer_treatment import LayerTreatment
from gradreach.treatments.treatment import Treatment, TreatmentError

__all__ = ["Activation"]

UNBOUNDED = ("relu", "leaky_relu", "elu", "modrelu", "identity")
CLIP = "clipping(norm=1.0)"  # Le et al. (2015) searched {1, 10, 100}; 1 is the safest of them


@dataclass(frozen=True)
class Activation(LayerTreatment):
    """Give a plain RNN another activation.

    ReLU and its kin do not shrink the gradient of an active unit, but neither do they bound the
    state: they are proposed together with a start at the identity and a clip of the gradient.

    Args:
        name: ``relu``, ``leaky_relu``, or any other that `gradreach.nn.RNN` knows.
        slope: Of ``leaky_relu`` (0.01 by default), α of ``elu`` (1).

    Example:
        >>> Activation("leaky_relu", slope=0.1).label
        'activation(leaky_relu, slope=0.1)'
    """

    family: ClassVar[str] = "activation"
    source: ClassVar[str] = (
        "Le, Jaitly & Hinton (2015), arXiv:1504.00941, section 4; Maas et al. (2013), equation 2"
    )
    side_effects: ClassVar[str] = (
        "the state is not bounded any more: without a start near the identity and gradient "
        "clipping it grows, and units of ReLU can die"
    )

    name: str = "relu"
    slope: float | None = None

    def __post_init__(self) -> None:
        try:
            activation_of(self.name, self.slope)
        except (TypeError, ValueError) as error:
            raise TreatmentError(f"Activation(): {error}") from error

    @property
    def remedies(self) -> Mapping[str, Any]:
        """The argument, and the slope where one is given."""
        given: dict[str, Any] = {"nonlinearity": self.name}
        return given if self.slope is None else {**given, "slope": self.slope}

    def rewrite(self, call: LayerCall) -> LayerCall | None:
        """Return the call with the activation: torch's own layer where that has it."""
        if not self.fits(call.kind, cell=call.cell):
            return None
        if call.arguments.get("nonlinearity", "tanh") == self.name and self.slope is None:
            return None
        changed = call.with_arguments(nonlinearity=self.name)
        return changed if self.slope is None else changed.adding(slope=self.slope)

    def refuses(self, facts: RunFacts) -> str | None:
        """Refuse also where the layers have this activation already."""
        why = super().refuses(facts)
        if why is not None:
            return why
        if self.slope is None and all(
            each.nonlinearity == self.name for each in facts.treatable("rnn")
        ):
            return f"its activation is {self.name} already"
        return None

    @classmethod
    def candidates(cls, finding: Finding, facts: RunFacts) -> list[Treatment]:
        """Propose by what is wrong: units that saturate, that die, or that explode."""
        if cls.family not in finding.remedies:
            return []
        if finding.code == "dead-units":
            every: list[Treatment] = [cls("leaky_relu"), cls("elu")]
        elif finding.code == "exploding-gradient":
            every = [cls("tanh")]
        else:
            every = [
                _with_needs(cls("relu"), "identity", facts),
                _with_needs(cls("leaky_relu"), "identity", facts),
                _with_needs(cls("relu"), "np-rnn", facts),
            ]
        return [each for each in every if each.refuses(facts) is None]

    @property
    def words(self) -> str:
        """What it does."""
        return f"Use {self.name} as the activation of the recurrence."


def _with_needs(activation: Activation, start: str, facts: RunFacts) -> Treatment:
    """Add the start and the clip without which an unbounded activation is no remedy."""
    from gradreach.treatments.families import treatment_from  # it lists this module

    parts = [activation.label, f"initialization({start})"]
    if not facts.clip_calls:
        parts.append(CLIP)
    return treatment_from(" + ".join(parts))
