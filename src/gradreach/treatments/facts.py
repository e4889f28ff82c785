"""What a diagnosis run knows of the training it watched: what treatments are chosen by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from gradreach.records.finding import Finding
from gradreach.treatments.sites import Site

__all__ = ["LayerFacts", "OptimizerFacts", "RunFacts"]


@dataclass(frozen=True, kw_only=True)
class LayerFacts:
    """One construction of a recurrent layer in the user's code.

    Attributes:
        kind: ``"rnn"``, ``"gru"``, ``"lstm"``, or ``"own"`` for a cell of the user's own.
        cell: One step (``nn.RNNCell``) or a sequence.
        class_name: Qualified name of its class, ``torch.nn.modules.rnn.RNN``.
        treatable: It is exactly torch's class, so that treatments may replace it.
        left: Why it is not; ``""`` where it is.
        steps: T of the longest sequence seen, ``None`` where not seen.
        carried: A state of its own came back into it from an earlier pass.
        names: Its names in the records of gradient flow (``rnn.l0``), where known.
        site: Where it is built.
    """

    kind: str
    cell: bool = False
    class_name: str = ""
    treatable: bool = True
    left: str = ""
    input_size: int = 0
    hidden_size: int = 0
    num_layers: int = 1
    nonlinearity: str = "tanh"
    bias: bool = True
    batch_first: bool = False
    dropout: float = 0.0
    bidirectional: bool = False
    proj_size: int = 0
    steps: int | None = None
    carried: bool = False
    names: tuple[str, ...] = ()
    site: Site | None = None


@dataclass(frozen=True, kw_only=True)
class OptimizerFacts:
    """One optimizer of the user's code."""

    kind: str
    lr: float = float("nan")
    momentum: float = 0.0
    weight_decay: float = 0.0
    site: Site | None = None


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a diagnosis run knows of the training it watched.

    Attributes:
        layers, optimizers: In the order in which they were built.
        steps: Optimizer steps of the run. seconds: Its wall time.
        sequence_steps: T of the longest sequence, in time steps; ``None`` where not seen.
        gradient_norms: Quantiles of the measured ‖g‖ before clipping, by their share: 0.1, 0.25,
            0.5, 0.75, 0.9, 1.0. Steps that were not finite are left out.
        clip_calls: Calls of torch's clipping functions per step; clip_kind: ``"norm"`` or
            ``"value"``; clip_threshold: what the last was given; NaN where there was none.
        scheduler: A learning-rate schedule was built.
        detached: Places where the user's code cuts a state off its graph.
        backward: Where ``backward`` was called.
        needs_lag: How far back the task must look, if the user said.
        sites: Every place that was met.

    Example:
        >>> facts = RunFacts(layers=(LayerFacts(kind="rnn", hidden_size=8),), sequence_steps=150)
        >>> facts.lag, facts.kinds
        (150, {'rnn'})
    """

    layers: tuple[LayerFacts, ...] = ()
    optimizers: tuple[OptimizerFacts, ...] = ()
    steps: int = 0
    seconds: float = float("nan")
    sequence_steps: int | None = None
    gradient_norms: Mapping[float, float] = field(default_factory=dict)
    clip_calls: float = 0.0
    clip_kind: str = ""
    clip_threshold: float = float("nan")
    scheduler: bool = False
    detached: tuple[Site, ...] = ()
    backward: tuple[Site, ...] = ()
    needs_lag: int | None = None
    sites: tuple[Site, ...] = ()

    @property
    def lag(self) -> int | None:
        """The longest lag the task may need: what the user said, else the sequence's length."""
        return self.sequence_steps if self.needs_lag is None else self.needs_lag

    @property
    def kinds(self) -> set[str]:
        """The recurrences among the layers that treatments may replace."""
        return {layer.kind for layer in self.layers if layer.treatable}

    def treatable(self, *kinds: str) -> tuple[LayerFacts, ...]:
        """Return the layers of these kinds (all, without any) that treatments may replace."""
        return tuple(
            each for each in self.layers if each.treatable and (not kinds or each.kind in kinds)
        )

    def layer_of(self, finding: Finding) -> LayerFacts | None:
        """Return the layer that a finding speaks of, where its name is known."""
        if finding.layer is None:
            return None
        named = [each for each in self.layers if finding.layer in each.names]
        return named[0] if named else None

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as plain data."""
        plain = asdict(self)
        plain["gradient_norms"] = [[share, norm] for share, norm in self.gradient_norms.items()]
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> RunFacts:
        """Undo :meth:`to_dict`."""
        return cls(
            **{
                **plain,
                "layers": tuple(_layer(each) for each in plain["layers"]),
                "optimizers": tuple(
                    OptimizerFacts(**{**each, "site": _site(each["site"])})
                    for each in plain["optimizers"]
                ),
                "gradient_norms": {float(q): float(norm) for q, norm in plain["gradient_norms"]},
                **{
                    name: tuple(Site.from_dict(each) for each in plain[name])
                    for name in ("detached", "backward", "sites")
                },
            }
        )


def _layer(plain: Mapping[str, Any]) -> LayerFacts:
    return LayerFacts(**{**plain, "names": tuple(plain["names"]), "site": _site(plain["site"])})


def _site(plain: Mapping[str, Any] | None) -> Site | None:
    return None if plain is None else Site.from_dict(plain)
