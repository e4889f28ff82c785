"""Where the state is cut off the graph: sooner, not at all, or where it has to be."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from torch import nn
from torch.optim import Optimizer

from gradreach.records.finding import Finding
from gradreach.treatments.edit import Edit
from gradreach.treatments.facts import RunFacts
from gradreach.treatments.interception import Interception
from gradreach.treatments.lines_before_step import at_constructors, at_top, written
from gradreach.treatments.places import STATE_DETACH, note_places
from gradreach.treatments.recut import recut
from gradreach.treatments.sites import Site
from gradreach.treatments.treatment import Treatment, TreatmentError

__all__ = ["DetachedState", "RecutTreatment", "ShorterGradient", "UndoneDetach"]

KINDS = (nn.RNNBase, nn.RNNCellBase)
LEAST_STEPS = 5
GROWTH = 10.0  # what exploding-gradient calls an explosion: a stretch should stay below it


@dataclass(frozen=True)
class RecutTreatment(Treatment):
    """Changes where the state of every recurrent layer is cut, when the layer is built."""

    family: ClassVar[str] = "truncation"

    @abstractmethod
    def act(self, layer: nn.Module) -> None:
        """Treat a layer or cell that has just been built."""

    def install(self, run: Interception) -> None:
        """Treat every recurrent layer and cell of torch's that the run builds."""
        note_places(run)
        run.on_built_layer(self.act)

    def apply(self, model: nn.Module, optimizer: Optimizer | None = None) -> nn.Module:
        """Treat every recurrent layer and cell within the model."""
        for layer in list(model.modules()):
            if isinstance(layer, KINDS):
                self.act(layer)
        return model

    def edits(self, sites: Sequence[Site]) -> list[Edit]:
        """Have the layers built treated."""
        return written(
            lambda: at_constructors(self.label, sites, "layer"), lambda: at_top(self.label, sites)
        )


@dataclass(frozen=True)
class ShorterGradient(RecutTreatment):
    """Run each sequence as it is, but send the gradient back over so many steps only.

    The layer is called on one stretch of ``steps`` after another, each starting from the detached
    state of the one before: values stay, the gradient does not cross.

    Args:
        steps: Length of a stretch; the last one may be shorter.

    Example:
        >>> import torch
        >>> layer = ShorterGradient(2).apply(nn.RNN(1, 1))
        >>> x = torch.ones(6, 1, 1, requires_grad=True)
        >>> layer(x)[0][-1].sum().backward()
        >>> (x.grad != 0).flatten().tolist()
        [False, False, False, False, True, True]
    """

    source: ClassVar[str] = (
        "Williams & Peng (1990), truncated back-propagation through time; its bias: Tallec & "
        "Ollivier (2017), arXiv:1705.08209"
    )
    side_effects: ClassVar[str] = (
        "nothing that takes longer than a stretch can be learned through the gradient, and the "
        "gradient is biased, its sign included"
    )

    steps: int

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise TreatmentError(
                f"ShorterGradient(): argument 'steps' must be 1 or more, got {self.steps!r}; give "
                "the length of a stretch"
            )

    def refuses(self, facts: RunFacts) -> str | None:
        """Refuse where there is no layer of torch's that runs a sequence in one direction."""
        layers = [layer for layer in facts.treatable() if not layer.cell]
        if not layers:
            return "there is no nn.RNN, nn.GRU or nn.LSTM that runs a whole sequence"
        if any(layer.bidirectional for layer in layers):
            return "a layer runs in both directions, and its second one has no stretches to go by"
        if facts.needs_lag is not None and facts.needs_lag > self.steps:
            return (
                f"the task needs {facts.needs_lag} steps, more than the {self.steps} that are left"
            )
        return None

    @classmethod
    def candidates(cls, finding: Finding, facts: RunFacts) -> list[Self]:
        """Propose the stretch over which the measured growth stays small, for an explosion."""
        factor = finding.numbers.get("factor_per_step")
        if finding.code != "exploding-gradient" or not facts.sequence_steps or not factor:
            return []
        steps = facts.sequence_steps
        if factor > 1:
            steps = min(steps, int(math.log(GROWTH) / math.log(factor)))
        each = cls(max(min(steps, facts.sequence_steps // 2), LEAST_STEPS))
        return [each] if each.applies_to(finding, facts) else []

    def act(self, layer: nn.Module) -> None:
        """Cut a layer that runs a sequence; a cell has no sequence to cut."""
        if isinstance(layer, nn.RNNBase) and not layer.bidirectional:
            recut(layer, steps=self.steps)

    def describe(self) -> str:
        """Say it in words and code."""
        return (
            f"Send the gradient back over {self.steps} steps only: run the layer on stretches, "
            f"`for chunk in x.split({self.steps}): out, h = rnn(chunk, h); h = h.detach()`, or "
            f'gradreach.treatments.treated(nn.RNN, "{self.label}")(…).'
        )


@dataclass(frozen=True)
class UndoneDetach(RecutTreatment):
    """Leave the state on the graph where the script detaches it within one pass.

    A detached state that comes back into its layer before ``backward`` is what the layer
    returned, still attached; one from a pass that is done stays detached, as it must.

    Args:
        undo: Always True.

    Example:
        >>> import torch
        >>> layer = UndoneDetach().apply(nn.RNN(1, 1))
        >>> x = torch.ones(2, 1, 1, requires_grad=True)
        >>> _, h = layer(x)
        >>> layer(torch.ones(1, 1, 1), h.detach())[1].sum().backward()
        >>> (x.grad != 0).flatten().tolist()
        [True, True]
    """

    source: ClassVar[str] = "Tallec & Ollivier (2017), on the bias of truncation, arXiv:1705.08209"
    side_effects: ClassVar[str] = (
        "time and memory of the whole pass; a gradient that explodes over the longer way does"
    )

    undo: bool = True

    @property
    def label(self) -> str:
        """The canonical name."""
        return "truncation(undo=True)"

    def refuses(self, facts: RunFacts) -> str | None:
        """Refuse where no state was seen to be detached."""
        if not facts.treatable():
            return "there is no recurrent layer of torch's own class"
        cut = any(site.kind == STATE_DETACH for site in facts.sites)
        return None if cut or facts.detached else "no state was seen to be detached"

    @classmethod
    def candidates(cls, finding: Finding, facts: RunFacts) -> list[Self]:
        """Propose it where the gradient is cut."""
        each = cls()
        fits = finding.code == "truncated-gradient" and each.applies_to(finding, facts)
        return [each] if fits else []

    def act(self, layer: nn.Module) -> None:
        """Attach what comes back detached."""
        recut(layer, joins=True)

    def describe(self) -> str:
        """Say it in words and code."""
        return "Do not detach the state between two calls of one pass: leave out `h = h.detach()`."


@dataclass(frozen=True)
class DetachedState(RecutTreatment):
    """Detach a state that is carried over from a pass that has been back-propagated.

    Args:
        detach: Always True.

    Example:
        >>> import torch
        >>> layer = DetachedState().apply(nn.RNN(1, 1))
        >>> h = None
        >>> for _ in range(2):  # the second backward would fail
        ...     output, h = layer(torch.ones(3, 1, 1), h)
        ...     output.sum().backward()
    """

    source: ClassVar[str] = "Williams & Peng (1990), truncated back-propagation through time"
    side_effects: ClassVar[str] = "the gradient does not reach back beyond one window"

    detach: bool = True

    @property
    def label(self) -> str:
        """The canonical name."""
        return "truncation(detach=True)"

    def refuses(self, facts: RunFacts) -> str | None:
        """Refuse where there is no layer of torch's own class."""
        return None if facts.treatable() else "there is no recurrent layer of torch's own class"

    @classmethod
    def candidates(cls, finding: Finding, facts: RunFacts) -> list[Self]:
        """Propose it where a state is carried over on the graph."""
        each = cls()
        fits = finding.code == "growing-graph" and each.applies_to(finding, facts)
        return [each] if fits else []

    def act(self, layer: nn.Module) -> None:
        """Detach what still hangs on an earlier pass."""
        recut(layer, detaches=True)

    def describe(self) -> str:
        """Say it in words and code."""
        return (
            "Detach the state before it enters the next window: `h = h.detach()`, for an LSTM "
            "`state = tuple(s.detach() for s in state)`."
        )
