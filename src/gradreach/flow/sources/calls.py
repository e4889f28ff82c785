"""What is kept of one call of a recurrent module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from gradreach.flow.sources.arrival import Arrival
from gradreach.flow.sources.place import Place
from gradreach.kernels.native.remembering import Forward

__all__ = ["CellCall", "FusedCall", "RecordedCall", "state_parts"]


def state_parts(state: Any) -> tuple[Tensor, ...]:
    """Return a state as a tuple: ``()`` for none, ``(h,)`` or ``(h, c)``."""
    if state is None:
        return ()
    return tuple(state) if isinstance(state, tuple | list) else (state,)


@dataclass
class RecordedCall:
    """One forward call.

    Args:
        name: The module's name in the model.
        entering: State tensors given by the caller, ``()`` where torch starts from zeros.
        entering_versions: Their in-place versions at the call.
        leaving: State tensors returned, off the graph: no record keeps a user's graph alive.
        leaving_versions: Likewise.
        leaving_places: Where on the graph each of ``leaving`` came to be.
        state_arrivals: Gradient arriving at each of ``leaving``.
        in_backward: The call was a recomputation inside a backward pass (checkpointing).
        autocast: The 16-bit type of the autocast it was made under; ``None`` outside of any.
        before: The call of the same module whose state entered this one, and how it did (a
            constant of ``links.Link``).
    """

    name: str
    module: torch.nn.Module
    inputs: Any
    entering: tuple[Tensor, ...]
    entering_versions: tuple[int, ...]
    leaving: tuple[Tensor, ...]
    leaving_versions: tuple[int, ...]
    leaving_places: tuple[Place | None, ...]
    state_arrivals: tuple[Arrival, ...]
    in_backward: bool
    autocast: torch.dtype | None
    before: tuple[RecordedCall, str] | None = field(default=None, init=False)

    @property
    def batch(self) -> int:
        """Number of sequences."""
        raise NotImplementedError

    @property
    def used_weights(self) -> Sequence[Tensor | None]:
        """The weights of the call."""
        raise NotImplementedError

    @property
    def reached(self) -> bool:
        """Whether any gradient arrived at this call."""
        return any(arrival.gradient is not None for arrival in self.arrivals())

    def arrivals(self) -> tuple[Arrival, ...]:
        """Return all gradient slots of the call."""
        return self.state_arrivals

    def places(self) -> tuple[Place | None, ...]:
        """Return where on the graph its results stand."""
        return self.leaving_places

    def leave_graph(self) -> None:
        """Keep values only: whoever drops the graph of this call gets its memory back."""
        self.entering = tuple(part.detach() for part in self.entering)
        if isinstance(self.inputs, PackedSequence):
            self.inputs = self.inputs._replace(data=self.inputs.data.detach())
        else:
            self.inputs = self.inputs.detach()


@dataclass
class FusedCall(RecordedCall):
    """One call of ``nn.RNN``, ``nn.GRU`` or ``nn.LSTM``.

    Args:
        output: Copy of the output sequence (its data where packed): the user may change the
            original in place.
        weights: The flat weights at the time of the call; of a layer of ours all parameters.
        rng_state: State of the random stream before the call, where dropout draws from it.
        versions: How often input, state and weights had been changed in place at the call.
        forwards: What the compiled core has left of it, where a layer of ours ran there.
    """

    output: Tensor
    output_place: Place | None
    output_arrival: Arrival
    weights: list[Tensor]
    rng_state: Tensor | None
    versions: tuple[int, ...] = ()
    forwards: list[Forward] = field(default_factory=list)

    def leave_graph(self) -> None:
        """Keep values only, and let go of what the backward needed."""
        super().leave_graph()
        self.forwards = []

    def current_versions(self) -> tuple[int, ...]:
        """Return how often input, state and weights have been changed in place by now."""
        data = self.inputs.data if isinstance(self.inputs, PackedSequence) else self.inputs
        return tuple(tensor._version for tensor in (data, *self.entering, *self.weights))

    def arrivals(self) -> tuple[Arrival, ...]:
        """Return all gradient slots of the call."""
        return (self.output_arrival, *self.state_arrivals)

    def places(self) -> tuple[Place | None, ...]:
        """Return where on the graph its results stand."""
        return (self.output_place, *self.leaving_places)

    @property
    def used_weights(self) -> Sequence[Tensor | None]:
        """The flat weights."""
        return self.weights

    @property
    def batch(self) -> int:
        """Number of sequences."""
        if isinstance(self.inputs, PackedSequence):
            return int(self.inputs.batch_sizes[0])
        if self.inputs.dim() == 2:
            return 1
        return int(self.inputs.shape[0 if self.module.batch_first else 1])


@dataclass
class CellCall(RecordedCall):
    """One call of ``nn.RNNCell``, ``nn.GRUCell`` or ``nn.LSTMCell``.

    Args:
        values: Copies of the returned states.
        weights: ``(W_ih, W_hh, b_ih, b_hh)`` at the time of the call; of a cell of ours those
            it has, and the parameters of its remedies after them.
    """

    values: tuple[Tensor, ...]
    weights: tuple[Tensor | None, ...]

    @property
    def used_weights(self) -> Sequence[Tensor | None]:
        """W_ih, W_hh and the biases, where there are some."""
        return self.weights

    @property
    def batch(self) -> int:
        """Number of sequences."""
        return 1 if self.inputs.dim() == 1 else int(self.inputs.shape[0])
