"""Gradient flow through time of one layer in one direction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradreach.records.array_record import ArrayRecord
from gradreach.records.from_states import FromStates
from gradreach.records.own_tensors import OwnCellTensors
from gradreach.records.parts import Gate, LayerTensors, NonFinite, ScaledArray
from gradreach.records.plain import Array, check_schema, from_plain, to_plain
from gradreach.records.reach import LEVEL, decay_per_step, reach
from gradreach.records.state_space import StateSpace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["LayerFlow"]

SCHEMA_VERSION = 1
CURVES = ("state_gradient_norms", "per_sample", "lag_profile", "own_lag_profile", "saturation",
          "dead", "lengths", "constant_tails")  # fmt: skip
MAPS = ("contributions", "shares")
PLAIN = ("name", "module", "kind", "source", "dtype", "reverse", "hidden_size", "closure_error",
         "closure_reference", "outside_gradient", "tail_gradient_share", "tail_one_value",
         "tail_value_elsewhere")  # fmt: skip
TUPLES = ("lag_probes", "loss_steps", "detached_steps", "transformed_steps", "notes")


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class LayerFlow(FromStates):
    """Exact gradient flow of one recurrent layer in one direction.

    Steps run in the direction of the recurrence: in a reverse layer step 0 is the last element
    of the sequence. In a ragged batch each row ends at its own length; beyond it entries are
    NaN.

    Attributes:
        name: ``"rnn.l0"``, ``"rnn.l0_reverse"``; the bare module name for a loop over a cell.
        module: Name of the module in the model.
        kind: ``"tanh"``, ``"relu"`` (simple RNN; of gradreach.nn also the other activations),
            ``"gru"`` or ``"lstm"``; of an own cell the name of its class.
        source: ``"fused"`` (torch's layer or one of gradreach.nn, replayed), ``"cells"`` (a loop
            over a cell) or ``"inputs"`` (gradient of the inputs only).
        lengths: ``(B,)`` steps of each sequence.
        state_gradient_norms: ``(T,)`` ‖∂L/∂s_k‖, root mean square over the batch; s is h, or
            (h, c) together for an LSTM.
        per_sample: ``(T, B)`` the same for each sequence.
        contributions: For each weight ``(T,)``: ‖c_k‖_F of the terms of ∂L/∂W = Σ_k c_k; W is
            the parameter, also where the recurrence multiplies with what is made of it.
        shares: For each weight ``(T,)``: ⟨c_k, Σc⟩/‖Σc‖². They sum to 1; NaN where Σc = 0.
        closure_error: For each weight: ‖Σ_k c_k − g‖/‖g‖, g the gradient torch computed.
        closure_reference: What g was: ``"backward"``, or ``"replay"`` (torch's own backward of
            this layer alone) where the weight is frozen or also gets gradient from elsewhere.
        outside_gradient: For each weight: the part of its gradient that comes from outside the
            recorded calls (weight decay in the loss, say), relative to the whole.
        lag_profile: Entry ℓ: how much of the gradient of a single loss step is left ℓ steps
            back, relative to lag 0, averaged over ``lag_probes``.
        own_lag_profile: The same through this layer's recurrence alone, without the paths
            through the layers above.
        lag_probes: The loss steps that were followed, among ``loss_steps``.
        saturation: ``(H,)`` share of (step, row) with φ' < 0.05; φ is tanh or ReLU, in gated
            cells the candidate's tanh. Empty for own cells, as are ``dead`` and ``gates``.
        dead: ``(H,)`` units with φ' = 0 everywhere.
        gates: Openness of each gate by its letter (``i f o``; ``r z``).
        detached_steps: Steps whose entering state was cut off the graph.
        transformed_steps: Steps whose entering state was changed on its way (masked, …).
        constant_tails: ``(B,)`` the step of the module's input from which each sequence no longer
            changes, in the order of the sequence; its length where it changes to the end.
        tail_gradient_share: Share of the loss gradient that enters the module inside such tails.
        tail_one_value: Share of the tails that hold the commonest of their values; NaN without
            tails.
        tail_value_elsewhere: Share of the steps outside tails that have that value too.
        nonfinite: The first NaN or infinity, if there was one.
        states: What ``jacobian``, ``lyapunov``, ``sensitivity`` and ``conditions`` are computed
            from on first access. In memory only; ``None`` in a loaded record.
        derived: Those that were computed so far.
    """

    name: str
    module: str
    kind: str
    source: str
    dtype: str
    reverse: bool
    hidden_size: int
    lengths: NDArray[np.int64]
    state_gradient_norms: Array
    per_sample: Array
    contributions: Mapping[str, Array]
    shares: Mapping[str, Array]
    closure_error: Mapping[str, float]
    closure_reference: Mapping[str, str]
    outside_gradient: Mapping[str, float]
    lag_profile: Array
    own_lag_profile: Array
    lag_probes: tuple[int, ...]
    loss_steps: tuple[int, ...]
    saturation: Array
    dead: NDArray[np.bool_]
    gates: Mapping[str, Gate]
    constant_tails: NDArray[np.int64]
    tail_gradient_share: float
    tail_one_value: float = float("nan")
    tail_value_elsewhere: float = float("nan")
    detached_steps: tuple[int, ...] = ()
    transformed_steps: tuple[int, ...] = ()
    nonfinite: NonFinite | None = None
    notes: tuple[str, ...] = ()
    tensors: LayerTensors | OwnCellTensors | None = None
    states: StateSpace | None = None
    derived: dict[str, ArrayRecord] = field(default_factory=dict)

    def __repr__(self) -> str:
        return (
            f"LayerFlow({self.name}: {self.kind} {self.hidden_size}, {self.steps} steps, "
            f"{self.batch} sequences, reach {self.reach()}, {self.source})"
        )

    @property
    def steps(self) -> int:
        """T, steps of the longest sequence."""
        return len(self.state_gradient_norms)

    @property
    def batch(self) -> int:
        """B, number of sequences."""
        return len(self.lengths)

    @property
    def exact(self) -> bool:
        """Whether state gradients were obtained; False only for the source ``"inputs"``."""
        return self.source != "inputs"

    @property
    def saturated(self) -> NDArray[np.bool_]:
        """``(H,)`` units with φ' < 0.05 in at least 95 % of (step, row)."""
        return self.saturation >= 0.95

    def reach(self, level: float = 0.01) -> int | None:
        """Return the smallest lag from which the lag profile stays below ``level``.

        T (the number of measured lags) if it never does; ``None`` where there is no profile.
        """
        return reach(self.lag_profile, level)

    @property
    def decay_per_step(self) -> float:
        """Factor per step: exp of the slope of the log lag profile over lags 1 … reach."""
        return decay_per_step(self.lag_profile)

    def plot(self) -> Figure:
        """Return a figure of this layer; see `GradientFlow.plot`.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from gradreach.records.flow_figure import flow_figure

        return flow_figure({self.name: self}, "`layer.plot()`")

    def _repr_html_(self) -> str:
        from gradreach.display.svg import curve_svg

        picture = curve_svg(
            self.lag_profile, title=f"What is left of the gradient of {self.name}, by lag",
            x_label="steps back", level=LEVEL, marked=self.reach(),
        )  # fmt: skip
        return f"<p>{escape(repr(self))}</p>{picture if len(self.lag_profile) else ''}"

    def state_gradients(self, part: str = "h") -> Array:
        """Return ∂L/∂h_k (``"h"``) or ∂L/∂c_k (``"c"``) of all steps, ``(T, B, H)`` float64.

        Total derivatives: ∂L/∂c_k includes the path through h_k. An own cell's parts are
        ``"h"`` where its state is one tensor, else the keys of its dict or dataclass, or
        ``"0"``, ``"1"``, … in a tuple.

        Raises:
            ValueError: ``part`` is not a part of this layer's state.
            LookupError: The record was loaded without its large arrays.
        """
        tensors = self._tensors()
        parts: dict[str, Any] = {}
        if isinstance(tensors, OwnCellTensors):
            parts |= tensors.parts
        else:
            parts["h"] = tensors.hidden
            if tensors.cell is not None:
                parts["c"] = tensors.cell
        if part not in parts:
            raise ValueError(
                f"state_gradients(): argument 'part' must be one of {sorted(parts)} for "
                f"{self.name} ({self.kind}); got {part!r}"
            )
        found: Array = parts[part]
        return found.array() if isinstance(found, ScaledArray) else found

    def contribution(self, name: str, step: int) -> Array:
        """Return the matrix c_k of one step: that step's term of ∂L/∂W.

        Args:
            name: Weight, as torch names it. step: k, 0 … T-1 in recurrence time.

        Raises:
            ValueError: No such weight or step.
            LookupError: The record was loaded without its large arrays.
        """
        if name not in self.contributions:
            known = ", ".join(self.contributions)
            raise ValueError(
                f"contribution(): argument 'name' must be a weight of {self.name} ({known}); "
                f"got {name!r}"
            )
        if not -self.steps <= step < self.steps:
            raise ValueError(
                f"contribution(): argument 'step' must be within 0 … {self.steps - 1}; got {step}"
            )
        tensors = self._tensors()
        if isinstance(tensors, OwnCellTensors):
            return tensors.term(name, step)
        if name in tensors.terms:
            return np.asarray(tensors.terms[name][step])
        from_input = list(self.contributions).index(name) % 2 == 0
        rows = self.lengths > step % self.steps  # beyond its own end a sequence adds nothing
        delta = tensors.side(recurrent=not from_input, step=step)[rows]
        if "bias" in name:
            return np.asarray(delta.sum(0))
        values = tensors.inputs if from_input else tensors.previous
        found = delta.T @ values[step][rows].astype(np.float64)
        return np.asarray(found - found.T if name == tensors.mirrored else found)

    def _tensors(self) -> LayerTensors | OwnCellTensors:
        if self.tensors is None:
            raise LookupError(
                f"{self.name}: this record holds curves only; measure again in this process to "
                "have state gradients and contribution matrices"
            )
        return self.tensors

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain data, without the large arrays.

        Jacobians, exponents, sensitivity and conditions are in it if they were computed.
        """
        plain: dict[str, Any] = {"record": "LayerFlow", "schema_version": SCHEMA_VERSION}
        for name in PLAIN:
            value = getattr(self, name)
            plain[name] = dict(value) if isinstance(value, Mapping) else value
        for name in CURVES:
            plain[name] = to_plain(getattr(self, name))
        for name in MAPS:
            plain[name] = {key: to_plain(value) for key, value in getattr(self, name).items()}
        for name in TUPLES:
            plain[name] = list(getattr(self, name))
        plain["gates"] = {name: gate.to_dict() for name, gate in self.gates.items()}
        plain["nonfinite"] = None if self.nonfinite is None else self.nonfinite.to_dict()
        return plain | self._derived_to_dict()

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> LayerFlow:
        """Undo :meth:`to_dict`.

        Raises:
            SchemaError: The data is of another record or schema version.
        """
        check_schema(plain, "LayerFlow", SCHEMA_VERSION)
        values: dict[str, Any] = {name: plain[name] for name in PLAIN}
        values |= {name: from_plain(plain[name]) for name in CURVES}
        values |= {
            name: {key: from_plain(value) for key, value in plain[name].items()} for name in MAPS
        }
        values |= {name: tuple(plain[name]) for name in TUPLES}
        values["gates"] = {name: Gate.from_dict(gate) for name, gate in plain["gates"].items()}
        if plain["nonfinite"] is not None:
            values["nonfinite"] = NonFinite(**plain["nonfinite"])
        values["derived"] = cls._derived_from_dict(plain)
        return cls(**values)
