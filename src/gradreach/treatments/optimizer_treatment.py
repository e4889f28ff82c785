"""What treatments of the learning rate share: they act on each optimizer, once it is built."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torch.optim import Optimizer

from gradreach.records.finding import Finding
from gradreach.treatments.edit import Edit
from gradreach.treatments.facts import RunFacts
from gradreach.treatments.interception import Interception
from gradreach.treatments.lines_before_step import at_constructors, at_top, written
from gradreach.treatments.places import note_places
from gradreach.treatments.sites import Site
from gradreach.treatments.treatment import Treatment, TreatmentError

__all__ = ["OptimizerTreatment", "says_rate_too_low"]


@dataclass(frozen=True)
class OptimizerTreatment(Treatment):
    """A change of how an optimizer steps, made when it is built.

    Class attributes:
        role: ``"factor"``, ``"warm-up"`` and ``"course"`` multiply with one another, each once;
            a ``"finder"`` stands alone.
    """

    family: ClassVar[str] = "learning_rate"
    role: ClassVar[str]

    def refuses(self, facts: RunFacts) -> str | None:
        """Refuse where no optimizer of torch's is built."""
        if facts.optimizers:
            return None
        return "no torch optimizer is built whose learning rate could be changed"

    @abstractmethod
    def act(self, optimizer: Optimizer) -> None:
        """Treat an optimizer that has just been built."""

    def plain_edits(self, sites: Sequence[Site]) -> list[Edit]:
        """Write it without gradreach.

        Raises:
            NoLineError: That cannot be done at these sites.
        """
        return at_constructors(self.label, sites)

    def install(self, run: Interception) -> None:
        """Treat every optimizer that the run builds."""
        note_places(run)
        run.on_optimizer(self.act)

    def apply(self, model: nn.Module, optimizer: Optimizer | None = None) -> nn.Module:
        """Treat this optimizer from now on.

        Raises:
            TreatmentError: There is no optimizer.
        """
        if optimizer is None:
            raise TreatmentError(
                f"{self.label}.apply(): argument 'optimizer' is None, but it is the optimizer that "
                "has the learning rate; pass it"
            )
        self.act(optimizer)
        return model

    def conflicts(self, other: Treatment) -> str | None:
        """Conflict with another of the same role, and where a rate is to be found out."""
        if isinstance(other, OptimizerTreatment):
            roles = {self.role, other.role}
            if len(roles) == 2 and "finder" not in roles:
                return None
        return super().conflicts(other)

    def edits(self, sites: Sequence[Site]) -> list[Edit]:
        """Write it where the optimizers are built, in plain torch where that says the same."""
        return written(
            lambda: self.plain_edits(sites),
            lambda: at_constructors(self.label, sites),
            lambda: at_top(self.label, sites),
        )


def says_rate_too_low(finding: Finding) -> bool:
    """Whether a finding is a learning rate that is too low, or comes of one."""
    return "learning-rate-too-low" in (finding.code, finding.numbers.get("because"))
