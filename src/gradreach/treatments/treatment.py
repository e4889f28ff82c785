"""What a treatment is: a remedy that can be tried on a training without editing it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, Self

from torch import nn
from torch.optim import Optimizer

from gradreach.errors import GradreachError
from gradreach.records.finding import Finding
from gradreach.treatments.edit import Edit
from gradreach.treatments.facts import RunFacts
from gradreach.treatments.interception import Interception
from gradreach.treatments.sites import Site

__all__ = ["Treatment", "TreatmentError"]


class TreatmentError(GradreachError):
    """A treatment cannot be made, composed or applied as asked for."""


@dataclass(frozen=True)
class Treatment(ABC):
    """One remedy with its parameters: frozen, comparable, plain data inside.

    A concrete treatment is a frozen dataclass of a family's module. Its fields are numbers,
    strings, booleans, None or tuples of these; the first string field is shown bare.

    Class attributes:
        family: Its name in ``records.finding.REMEDIES``, or ``"regularization"``.
        source: The paper, and its equation.
        side_effects: One sentence: what else changes.
    """

    family: ClassVar[str]
    source: ClassVar[str]
    side_effects: ClassVar[str]

    @property
    def label(self) -> str:
        """The canonical name, unique among all treatments: ``gating(GRU)``."""
        parts = []
        for place, each in enumerate(fields(self)):
            value = getattr(self, each.name)
            if place == 0 and isinstance(value, str):
                parts.append(value)
            elif each.default is MISSING or value != each.default:
                parts.append(f"{each.name}={value!r}")
        return f"{self.family}({', '.join(parts)})"

    def __str__(self) -> str:
        return self.label

    def to_dict(self) -> dict[str, Any]:
        """Return the treatment as plain data; `treatment_from` reads it."""
        given = {each.name: _plain(getattr(self, each.name)) for each in fields(self)}
        return {"treatment": self.family, "class": type(self).__name__, "arguments": given}

    @classmethod
    def from_arguments(cls, arguments: dict[str, Any]) -> Self:
        """Make one of the arguments of :meth:`to_dict`."""
        return cls(**{name: _tupled(value) for name, value in arguments.items()})

    def applies_to(self, finding: Finding, facts: RunFacts) -> bool:
        """Whether this is worth trying: the finding names the family, and the model allows it."""
        return self.family in finding.remedies and self.refuses(facts) is None

    @abstractmethod
    def refuses(self, facts: RunFacts) -> str | None:
        """Return why this model cannot be treated so; ``None`` where it can."""

    @classmethod
    @abstractmethod
    def candidates(cls, finding: Finding, facts: RunFacts) -> Sequence[Treatment]:
        """Propose concrete parameters from what was measured, the best first."""

    @abstractmethod
    def install(self, run: Interception) -> None:
        """Have the treatment carried out on whatever the run builds and does."""

    @abstractmethod
    def apply(self, model: nn.Module, optimizer: Optimizer | None = None) -> nn.Module:
        """Treat objects that are built already, and return the model.

        Raises:
            TreatmentError: It cannot be done to them any more; the sentence says what can.
        """

    @abstractmethod
    def edits(self, sites: Sequence[Site]) -> list[Edit]:
        """Return the changes of the user's files that do the same as :meth:`install`."""

    @abstractmethod
    def describe(self) -> str:
        """Return one sentence for the reader, and the lines of code that do it."""

    def after(self, facts: RunFacts) -> RunFacts:
        """Return what is known of a run that is treated so: another kind of layer, say."""
        return facts

    def conflicts(self, other: Treatment) -> str | None:
        """Return why the two cannot be combined; ``None`` where they can."""
        if other.family == self.family:
            return f"{self.label} and {other.label} both change the {_words(self.family)}"
        return None


def _plain(value: Any) -> Any:
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def _tupled(value: Any) -> Any:
    return tuple(_tupled(each) for each in value) if isinstance(value, list) else value


def _words(family: str) -> str:
    return {"gating": "kind of recurrence"}.get(family, family.replace("_", " "))
