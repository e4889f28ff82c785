"""What is kept of one recurrent layer, in one direction, to run it backwards again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from gradreach.kernels.extension import Extension
from gradreach.kernels.native.invocation import Statistics
from gradreach.kernels.native.kept_gates import KeptGates
from gradreach.kernels.time_axis import TimeAxis

__all__ = ["LayerWeights", "Remembering", "Replay", "Replayable", "ReplayableCell", "SplitsState",
           "Tape"]  # fmt: skip


@dataclass(frozen=True)
class LayerWeights:
    """Weights of one layer in one direction, with the names torch gives them.

    Shape:
        input: ``(G·H, I)``; recurrent: ``(G·H, H)``; biases ``(G·H,)`` or ``None``;
        G = 1 (RNN), 3 (GRU: r, z, n), 4 (LSTM: i, f, g, o).
    """

    input: Tensor
    recurrent: Tensor
    input_bias: Tensor | None
    recurrent_bias: Tensor | None
    names: tuple[str, ...]

    def named(self) -> list[tuple[str, Tensor]]:
        """Return the weights that exist, by name, in torch's order."""
        tensors = (self.input, self.recurrent, self.input_bias, self.recurrent_bias)
        present = [tensor for tensor in tensors if tensor is not None]
        return list(zip(self.names, present, strict=True))


@dataclass
class Tape:
    """One layer, one direction, one call (or one chain of cell calls), in recurrence time.

    Everything is time-major and in the user's dtype. ``activations`` holds what
    :func:`gradreach.kernels.equations.recompute` adds: gates and candidate.

    Shape:
        inputs: ``(T, B, I)``. previous, hidden, previous_cell, cell: ``(T, B, H)``.

    Args:
        kind: ``"gru"``, ``"lstm"``, or the activation of a simple cell: ``"tanh"``, ``"relu"``.
        weights: The layer's parameters.
        previous: State that enters each step; ``hidden`` the one that leaves it.
        cuts: Steps whose entering state is not connected to the step before it.
        extension: What a layer of our own adds to torch's equations.
        given: The parameters as the module has them, where ``weights`` are copies (``half.py``).
        precision: The 16-bit type the user's pass computed in, where it did.
        kept: The gates as the user's own pass left them in the core: then ``activations`` and
            ``cell`` stay empty until somebody recomputes them.
        told: What the user's own backward saw, where it was asked.
    """

    kind: str
    axis: TimeAxis
    weights: LayerWeights
    inputs: Tensor
    previous: Tensor
    hidden: Tensor
    previous_cell: Tensor | None = None
    cell: Tensor | None = None
    cuts: frozenset[int] = frozenset()
    activations: dict[str, Tensor] = field(default_factory=dict)
    extension: Extension | None = None
    given: dict[str, Tensor] | None = None
    precision: torch.dtype | None = None
    kept: KeptGates | None = None
    told: Statistics | None = None

    @property
    def rounded_to(self) -> torch.dtype:
        """The type that the user's pass rounded its numbers to."""
        return self.hidden.dtype if self.precision is None else self.precision

    @property
    def hidden_size(self) -> int:
        """Width of h: the units of the layer, or of its projection where it has one."""
        return self.hidden.shape[-1]

    @property
    def units(self) -> int:
        """Units of the cell: wider than h where that is a projection of them."""
        wide = self.previous_cell
        return self.hidden_size if wide is None else wide.shape[-1]

    @property
    def matrix(self) -> Tensor:
        """The matrix that the recurrence multiplies with: W_hh, or what is made of it."""
        own = self.extension
        return self.weights.recurrent if own is None else own.numbers.recurrent

    def parameters(self) -> dict[str, Tensor]:
        """Return all parameters by name, torch's first."""
        if self.given is not None:
            return self.given
        extra = () if self.extension is None else self.extension.learned
        return dict(self.weights.named()) | {own.name: own.parameter for own in extra}

    def lagged(self, skip: int) -> Tensor:
        """Return the states that a skip of ``skip`` steps brings to each step, ``(T, B, H)``."""
        if skip == 1:
            return self.previous
        every = 1 if self.extension is None else self.extension.dilation
        steps, missing = len(self.hidden), (skip - 1) * every
        begun = self.previous[:every]
        nothing = self.hidden.new_zeros(missing, *self.hidden.shape[1:])
        return torch.cat([nothing, begun, self.hidden])[:steps]


@dataclass
class Replay:
    """The tapes of one call of a stack of layers.

    Args:
        tapes: ``tapes[layer][direction]``.
        masks: ``masks[layer]``: what multiplied that layer's output on its way to the next
            (dropout), ``(T, B, D·H)`` in module time, or ``None``.
        identical: Whether the replayed output had the same bits as the user's.
    """

    tapes: list[list[Tape]]
    masks: list[Tensor | None]
    identical: bool


@runtime_checkable
class Replayable(Protocol):
    """A recurrent layer that can say itself how one of its calls went.

    gradreach's own layers implement it; torch's are replayed by
    :func:`gradreach.kernels.torch_replay.replay_torch`.
    """

    def why_not_replayable(self) -> str | None:
        """Say why calls of this layer cannot be replayed, or ``None`` where they can."""
        ...

    def used_weights(self) -> list[Tensor]:
        """Return the parameters that a call uses, in an order of the layer's own."""
        ...

    def replay(
        self,
        weights: list[Tensor],
        inputs: Any,
        state: Any,
        output: Tensor,
        rng_state: Tensor | None,
    ) -> Replay:
        """Run the call once more and return its tapes.

        Args:
            weights: What :meth:`used_weights` gave right after the call.
            inputs: The input of the call, a tensor or a ``PackedSequence``.
            state: The initial state given to the call, or ``None``.
            output: Its output sequence (the data, where packed), to compare bits with.
            rng_state: State of the random stream just before the call.
        """
        ...


@runtime_checkable
class Remembering(Protocol):
    """A recurrent layer that can make its tapes of what its forwards left in the core."""

    def replay_remembered(
        self, weights: list[Tensor], inputs: Any, output: Tensor, forwards: list[Any]
    ) -> Replay | None:
        """Return the tapes of a call, ``None`` where it has to be run once more.

        Args:
            weights, inputs, output: As of :meth:`Replayable.replay`.
            forwards: What :mod:`gradreach.kernels.native.remembering` collected of the call.
        """
        ...


@runtime_checkable
class ReplayableCell(Protocol):
    """A cell that can say itself what one step of it computes; gradreach's own cells can."""

    def why_not_replayable(self) -> str | None:
        """Say why steps of this cell cannot be followed, or ``None`` where they can."""
        ...

    def used_weights(self) -> list[Tensor]:
        """Return the parameters that a call uses, in an order of the cell's own."""
        ...

    def tape_parts(self, weights: list[Tensor]) -> tuple[str, LayerWeights, Extension | None]:
        """Return the kind, the weights and the extension of a tape of this cell.

        Args:
            weights: What :meth:`used_weights` gave right after the call.
        """
        ...


@runtime_checkable
class SplitsState(Protocol):
    """A module whose caller sees one state tensor, where its recurrence has two."""

    def split_state(self, state: Any) -> tuple[Tensor, Tensor] | None:
        """Return (h, c) of a state as it was given or returned; ``None`` for none."""
        ...
