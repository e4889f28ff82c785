"""Other starting values of the recurrence: what the first steps of training can reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from gradreach.records.finding import Finding
from gradreach.treatments.activation import CLIP
from gradreach.treatments.facts import RunFacts
from gradreach.treatments.layer_call import LayerCall
from gradreach.treatments.layer_treatment import LayerTreatment
from gradreach.treatments.treatment import Treatment, TreatmentError

__all__ = ["Chrono", "ForgetBias", "Initialization"]

PLAIN_ONLY = ("identity", "np-rnn")
SCALED = ("identity", "orthogonal")


@dataclass(frozen=True)
class Initialization(LayerTreatment):
    """Start the recurrent weights at a published point.

    Args:
        name: ``"orthogonal"`` (no direction fades or grows), ``"identity"`` (IRNN; belongs to
            ReLU) or ``"np-rnn"`` (positive definite; belongs to ReLU).
        scale: Factor of ``"identity"`` and ``"orthogonal"``; 1 without.

    Example:
        >>> Initialization("identity", scale=0.99).label
        'initialization(identity, scale=0.99)'
    """

    family: ClassVar[str] = "initialization"
    source: ClassVar[str] = (
        "Le, Jaitly & Hinton (2015), arXiv:1504.00941, section 3; Saxe, McClelland & Ganguli "
        "(2014), arXiv:1312.6120; Talathi & Vartak (2015), arXiv:1511.03771"
    )
    side_effects: ClassVar[str] = (
        "the start of training only; an identity passes little input at first and learns slowly"
    )

    name: str = "orthogonal"
    scale: float | None = None

    def __post_init__(self) -> None:
        known = ("orthogonal", *PLAIN_ONLY)
        if self.name not in known:
            raise TreatmentError(
                f"Initialization(): argument 'name' must be one of {', '.join(known)}, got "
                f"{self.name!r}; for gates take ForgetBias or Chrono"
            )
        if self.scale is not None and (self.name not in SCALED or not 0 < self.scale < 10):
            raise TreatmentError(
                f"Initialization(): argument 'scale' must be a factor between 0 and 10 of "
                f"{' or '.join(SCALED)}, got {self.scale!r} with {self.name!r}"
            )

    @property
    def remedies(self) -> Mapping[str, Any]:
        """The argument ``init``."""
        return {"init": self.name if self.scale is None else (self.name, self.scale)}

    def fits(self, kind: str, *, cell: bool) -> bool:
        """Whether a layer of this kind can start so."""
        return kind == "rnn" if self.name in PLAIN_ONLY else kind in ("rnn", "gru", "lstm")

    def refuses(self, facts: RunFacts) -> str | None:
        """Refuse where no layer can start so."""
        if any(self.fits(each.kind, cell=each.cell) for each in facts.treatable()):
            return None
        if self.name in PLAIN_ONLY and facts.treatable():
            return f"gates decide what a gated layer keeps, not {self.name} in weight_hh"
        return super().refuses(facts)

    def conflicts(self, other: Treatment) -> str | None:
        """Refuse a second start of the same weights; gates may start as they like."""
        return None if isinstance(other, Chrono | ForgetBias) else super().conflicts(other)

    @classmethod
    def candidates(cls, finding: Finding, facts: RunFacts) -> list[Treatment]:
        """Propose what fits the recurrence that is there."""
        if cls.family not in finding.remedies:
            return []
        every: list[Treatment] = []
        if facts.treatable("rnn"):
            every += _for_plain(finding, facts)
        if facts.treatable("gru", "lstm"):
            every.append(cls("orthogonal"))
        unique = {each.label: each for each in every}
        return [each for each in unique.values() if each.refuses(facts) is None]

    @property
    def words(self) -> str:
        """What it does."""
        scaled = "" if self.scale is None else f", times {self.scale:g}"
        return f"Start the recurrent weights at {self.name}{scaled}."


def _for_plain(finding: Finding, facts: RunFacts) -> list[Treatment]:
    from gradreach.treatments.families import treatment_from  # it lists this module

    clip = "" if facts.clip_calls else f" + {CLIP}"
    relu = any(each.nonlinearity == "relu" for each in facts.treatable("rnn"))
    if finding.code in ("exploding-gradient", "saturated-units"):
        # Where its units are active ReLU shrinks nothing: a plain rotation would keep what grows.
        return [treatment_from(f"initialization(orthogonal{', scale=0.95' if relu else ''})")]
    if relu:
        labels = ["initialization(identity)", "initialization(identity, scale=0.99)",
                  "initialization(np-rnn)"]  # fmt: skip
        return [treatment_from(f"{label}{clip}") for label in labels]
    irnn = f"activation(relu) + initialization(identity){clip}"
    return [treatment_from("initialization(orthogonal)"), treatment_from(irnn)]


@dataclass(frozen=True)
class _GateBias(LayerTreatment):
    """A start of the biases of the gates."""

    family: ClassVar[str] = "initialization"
    kinds: ClassVar[tuple[str, ...]] = ("lstm", "gru")

    def conflicts(self, other: Treatment) -> str | None:
        """Refuse a second start of the gates; weights may start as they like."""
        return None if isinstance(other, Initialization) else super().conflicts(other)

    def rewrite(self, call: LayerCall) -> LayerCall | None:
        """Return the call with the remedies; ``None`` for a layer without biases, too."""
        return super().rewrite(call) if call.arguments.get("bias", True) else None

    def refuses(self, facts: RunFacts) -> str | None:
        """Refuse also where no gate has a bias."""
        told = super().refuses(facts)
        if told is None and not any(each.bias for each in facts.treatable("gru", "lstm")):
            return "its gates were built with bias=False, and there is nothing to start"
        return told


@dataclass(frozen=True)
class ForgetBias(_GateBias):
    """Start the gate that keeps the state open: the forget gate of an LSTM, z of a GRU.

    Args:
        forget_bias: What the gate's two biases sum to.

    Example:
        >>> ForgetBias(1.0).label
        'initialization(forget_bias=1.0)'
    """

    source: ClassVar[str] = (
        "Gers, Schmidhuber & Cummins (2000), section 4; Jozefowicz, Zaremba & Sutskever (2015), "
        "section 3.2"
    )
    side_effects: ClassVar[str] = "the start of training only: the layer keeps more at first"

    forget_bias: float

    def __post_init__(self) -> None:
        _check("ForgetBias", "forget_bias", self.forget_bias, -20.0)

    @property
    def remedies(self) -> Mapping[str, Any]:
        """The argument."""
        return {"forget_bias": self.forget_bias}

    @classmethod
    def candidates(cls, finding: Finding, facts: RunFacts) -> list[Self]:
        """Propose 1, the usual number."""
        every = [cls(1.0)]
        return [each for each in every if each.applies_to(finding, facts)]

    @property
    def words(self) -> str:
        """What it does."""
        return f"Start the gate that keeps the state with a bias of {self.forget_bias:g}."


@dataclass(frozen=True)
class Chrono(_GateBias):
    """Start the gates so that the units remember for 1 to ``max_lag`` steps.

    Args:
        name: ``"chrono"``.
        max_lag: The longest lag of the task, in steps.

    Example:
        >>> Chrono(max_lag=150).label
        'initialization(chrono, max_lag=150)'
    """

    source: ClassVar[str] = "Tallec & Ollivier (2018), arXiv:1804.11188, equation 16"
    side_effects: ClassVar[str] = (
        "the start of training only: units that keep for long take in new input slowly"
    )

    name: str = "chrono"
    max_lag: int = 0

    def __post_init__(self) -> None:
        if self.name != "chrono":
            raise TreatmentError(f"Chrono(): argument 'name' must be 'chrono', got {self.name!r}")
        _check("Chrono", "max_lag", self.max_lag, 2)

    @property
    def remedies(self) -> Mapping[str, Any]:
        """The arguments."""
        return {"forget_bias": "chrono", "max_lag": self.max_lag}

    @classmethod
    def candidates(cls, finding: Finding, facts: RunFacts) -> list[Self]:
        """Propose the lag that the task needs, else the length of its sequences."""
        if facts.lag is None or facts.lag < 2:
            return []
        every = [cls(max_lag=facts.lag)]
        return [each for each in every if each.applies_to(finding, facts)]

    @property
    def words(self) -> str:
        """What it does."""
        return f"Start the gates so that the units remember for 1 to {self.max_lag} steps."


def _check(call: str, argument: str, value: float, least: float) -> None:
    number = type(value) in (int, float)  # a bool is none, and labels bring anything
    if not number or not least <= value < 1e9:
        raise TreatmentError(
            f"{call}(): argument '{argument}' must be a number from {least:g} up, got {value!r}; "
            "give 1.0 as a forget bias, or the longest lag of your task"
        )
