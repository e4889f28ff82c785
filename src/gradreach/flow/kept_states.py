"""What a measurement keeps of a layer's states, so that its Jacobians can be asked for later."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from gradreach.errors import NotMeasurableError
from gradreach.flow.conditions import conditions_of
from gradreach.flow.jacobian import jacobian_summary
from gradreach.flow.jacobian_cost import jacobian_cost
from gradreach.flow.lyapunov import lyapunov_spectrum
from gradreach.flow.sensitivity import state_sensitivity
from gradreach.flow.sources.links import Link
from gradreach.flow.track import Track
from gradreach.kernels.equations import equations_for
from gradreach.kernels.tape import LayerWeights, Tape
from gradreach.kernels.time_axis import TimeAxis
from gradreach.records import (
    Conditions,
    JacobianCost,
    JacobianSummary,
    LyapunovSpectrum,
    StateSensitivity,
)

__all__ = ["KeptStates", "kept_states"]


@dataclass
class KeptStates:
    """One layer's whole time axis as a single tape on the CPU, with its weights as they were.

    A state that went on detached is the same state: the dynamics pass it on, only the gradient
    does not. A state that was changed on its way (masked, normalised) is not; steps that begin
    with one stand in ``tape.cuts``.
    """

    given: Tape

    @cached_property
    def tape(self) -> Tape:
        """The tape, its gates recomputed where the measurement read them elsewhere."""
        if self.given.activations or self.given.extension is not None:
            return self.given
        tape = replace(self.given, activations={})
        with torch.no_grad():
            equations_for(tape).recompute(tape)
        return tape

    @cached_property
    def rows(self) -> Tensor:
        """Rows of the batch without NaN or infinity."""
        tape, valid = self.tape, self.tape.axis.valid
        if not all(bool(weight.isfinite().all()) for weight in tape.parameters().values()):
            return torch.zeros(0, dtype=torch.int64)
        fine = torch.ones(tape.axis.batch, dtype=torch.bool)
        for values in (tape.inputs, tape.previous, tape.hidden, tape.previous_cell, tape.cell):
            if values is not None:
                fine &= (values.isfinite().all(-1) | ~valid).all(0)
        return fine.nonzero()[:, 0]

    @torch.no_grad()
    def jacobian(self, *, sequences: int = 4) -> JacobianSummary:
        """Return the singular values of the step Jacobians and of their product."""
        self._refuse("jacobian")
        return jacobian_summary(self.tape, self.rows, _positive("sequences", sequences))

    @torch.no_grad()
    def lyapunov(self, *, exponents: int | None = None, sequences: int = 4) -> LyapunovSpectrum:
        """Return the ``exponents`` largest finite-time Lyapunov exponents."""
        if exponents is not None:
            _positive("exponents", exponents)
        wanted = _positive("sequences", sequences)
        self._refuse("lyapunov")
        return lyapunov_spectrum(self.tape, self.rows, wanted, exponents)

    @torch.no_grad()
    def sensitivity(self, *, tangents: int = 16, sequences: int = 4) -> StateSensitivity:
        """Return how strongly the states depend on the recurrent weights."""
        wanted = _positive("sequences", sequences)
        self._refuse("sensitivity")
        extension = self.tape.extension
        if extension is not None and extension.mirrored:
            raise NotMeasurableError(
                "layer.sensitivity: the recurrence uses W - Wᵀ - γI, in which one entry of W "
                "moves two of the matrix: not measured; read layer.contributions"
            )
        return state_sensitivity(self.tape, self.rows, wanted, _positive("tangents", tangents))

    @torch.no_grad()
    def conditions(self) -> Conditions:
        """Return what follows from the weights alone, and what the data say."""
        self._refuse("conditions")
        extension = self.tape.extension
        if extension is not None and (reason := extension.why_no_conditions()) is not None:
            raise NotMeasurableError(f"layer.conditions: {reason}")
        return conditions_of(self.tape, self.rows)

    def cost(self) -> JacobianCost:
        """Return what the others would cost with their defaults."""
        return jacobian_cost(self.tape)

    def _refuse(self, wanted: str) -> None:
        """Refuse what a state that is not Markov in h_{t-1} has not got."""
        extension = self.tape.extension
        reason = None if extension is None else extension.why_not_markov()
        if reason is not None:
            raise NotMeasurableError(f"layer.{wanted}: {reason}")


def kept_states(track: Track, place: tuple[int, int]) -> KeptStates:
    """Keep one layer's tapes, in recurrence time.

    Cost:
        No arithmetic. The states, inputs and activations that the replay has computed anyway
        stay in memory with the record, in the user's dtype: a simple RNN's record grows by
        about 1 %, a GRU's by a quarter, an LSTM's by 40 % (float64: by half and by 73 %; ragged
        batches: by 15 points more). Of layers of ours that were not replayed no activations
        stay; they are recomputed when first asked for. One copy of the layer's weights is made, for
        an optimizer changes them in place; several calls on one axis are joined, which copies
        their states.
    """
    tapes = track.tapes(*place)
    lengths = track.lengths().cpu()
    longest = int(lengths.max())

    def whole(name: str) -> Tensor | None:
        parts = [getattr(tape, name) for tape in tapes]
        if any(part is None for part in parts):
            return None
        return track.joined([part.detach() for part in parts])[:longest].cpu()

    def needed(name: str) -> Tensor:
        values = whole(name)
        assert values is not None
        return values

    first = tapes[0]
    activations = {
        name: track.joined([tape.activations[name] for tape in tapes])[:longest].cpu()
        for name in first.activations
    }
    return KeptStates(
        Tape(
            kind=first.kind,
            axis=TimeAxis(longest, lengths),
            weights=_snapshot(first.weights),
            inputs=needed("inputs"),
            previous=needed("previous"),
            hidden=needed("hidden"),
            previous_cell=whole("previous_cell"),
            cell=whole("cell"),
            cuts=frozenset(track.steps_after(Link.TRANSFORMED)),
            activations=activations,
            extension=None if first.extension is None else first.extension.moved(_copied),
        )
    )


def _snapshot(weights: LayerWeights) -> LayerWeights:
    def copy(weight: Tensor | None) -> Tensor | None:
        return None if weight is None else _copied(weight)

    own = [copy(weight) for weight in (weights.input, weights.recurrent)]
    assert own[0] is not None
    assert own[1] is not None
    return LayerWeights(
        own[0], own[1], copy(weights.input_bias), copy(weights.recurrent_bias), weights.names
    )


def _copied(weight: Tensor) -> Tensor:
    return weight.detach().clone().cpu()


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise ValueError(f"argument {name!r} must be a positive whole number; got {value!r}")
    return value
