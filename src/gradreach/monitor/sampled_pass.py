"""What is recorded of one backward pass, before anything is computed from it."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from gradreach.flow.sources.calls import RecordedCall
from gradreach.flow.sources.own_calls import OwnCall
from gradreach.records import BlindSpot, LayerFlow

__all__ = ["SampledPass"]


@dataclass
class SampledPass:
    """What was recorded of one pass.

    Args:
        number: Its number among the passes, from 0. step: updates of the weights before it.
        reason: Why it was sampled: as in :class:`gradreach.records.sample.Sample`.
        gradients: By ``id`` of the weights in ``calls``, what this pass sent to them; and of the
            parameters of own cells.
        own_calls: Calls of cells of users' own, by name. own_blind: such that cannot be measured.
        by_input: Flows of modules without a state, where they were asked for.
        loss: The value backward was called on, where it was seen.
    """

    number: int
    step: int
    reason: str
    calls: list[RecordedCall]
    gradients: dict[int, Tensor | None]
    own_calls: dict[str, list[OwnCall]] = field(default_factory=dict)
    own_blind: list[BlindSpot] = field(default_factory=list)
    by_input: dict[str, LayerFlow] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    loss: float | None = None
