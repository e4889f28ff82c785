"""An LSTM that takes and gives one state tensor, for code written for an RNN or a GRU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gradreach.nn.lstm import LSTM, LSTMCell
from gradreach.nn.state_with_cell import StateWithCell

__all__ = ["OneStateLSTM", "OneStateLSTMCell"]

NODES = 200  # of the graph behind a state that are searched for an earlier call of ours


class _OneState(torch.nn.Module):
    """Turns the one state of the caller into the two of an LSTM, and back."""

    _starts_given = False  # a caller computes the initial state himself: any plain one is taken

    def split_state(self, state: Any) -> tuple[Tensor, Tensor] | None:
        """Return (h, c) of a state as it was given or returned; ``None`` for none.

        Raises:
            ValueError: A state that came from here has lost its cell on the way.
        """
        if state is None:
            return None
        if isinstance(state, StateWithCell):
            return state, state.cell
        if isinstance(state, tuple | list):
            raise TypeError(
                f"{type(self).__name__}(): argument 'hx' must be one state tensor, got a "
                f"{type(state).__name__} of {len(state)}; write LSTM to pass (h, c) yourself"
            )
        if state.grad_fn is not None and _came_from(state.grad_fn, id(self)):
            raise ValueError(self._lost("was computed from a state of this layer and"))
        if state.requires_grad:
            self._starts_given = True  # learned, or computed by another layer
        elif not self._starts_given and bool(state.any()):
            raise ValueError(self._lost("is neither zero nor learned, and"))
        return state, torch.zeros_like(state)

    def _lost(self, why: str) -> str:
        return (
            f"{type(self).__name__}(): argument 'hx' {why} has no cell state; pass on the state "
            "as it was returned (detach, clone, slices of the batch and masks over it are fine), "
            "None or zeros, or StateWithCell.of(h, c)"
        )

    def _bind(self, hidden: Tensor, cell: Tensor) -> StateWithCell:
        if hidden.grad_fn is not None:
            remarks: Any = hidden.grad_fn.metadata
            remarks.setdefault("gradreach.one_state", set()).add(id(self))
        return StateWithCell.of(hidden, cell)


class OneStateLSTM(_OneState, LSTM):
    """`LSTM` whose state is one tensor h, which carries the cell state along.

    It stands where an ``nn.RNN`` or ``nn.GRU`` stood: ``output, h = layer(input, h)``, with h of
    the shape it had, also where the loop keeps, detaches, masks or slices it. An initial state
    may be None, zeros, learned, or computed by another layer; its cell state is zeros. The
    parameters are those of `torch.nn.LSTM`.

    Args: As `LSTM`.

    Raises:
        ValueError: A state is handed back that has lost its cell state on the way.

    Shape:
        As torch.nn.GRU.

    Reference:
        Hochreiter & Schmidhuber (1997).

    Example:
        >>> layer = OneStateLSTM(2, 8)
        >>> output, h = layer(torch.randn(5, 3, 2))
        >>> output, h = layer(torch.randn(5, 3, 2), h.detach())
        >>> h.shape, h.cell.shape
        (torch.Size([1, 3, 8]), torch.Size([1, 3, 8]))
    """

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Run the layer; arguments and results are those of torch.nn.GRU."""
        with torch._C.DisableTorchFunctionSubclass():
            output, (hidden, cell) = super().forward(input, self.split_state(hx))
            return output, self._bind(hidden, cell)


class OneStateLSTMCell(_OneState, LSTMCell):
    """`LSTMCell` whose state is one tensor h, which carries the cell state along.

    It stands where an ``nn.RNNCell`` or ``nn.GRUCell`` stood: ``h = cell(x, h)``.

    Args: As `LSTMCell`.

    Raises:
        ValueError: A state is handed back that has lost its cell state on the way.

    Shape:
        As torch.nn.GRUCell.

    Example:
        >>> cell, h = OneStateLSTMCell(2, 8), None
        >>> for x in torch.randn(5, 3, 2):
        ...     h = cell(x, h)
        >>> h.shape
        torch.Size([3, 8])
    """

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """Run one step; arguments and results are those of torch.nn.GRUCell."""
        with torch._C.DisableTorchFunctionSubclass():
            hidden, cell = super().forward(input, self.split_state(hx))
            return self._bind(hidden, cell)


def _came_from(node: Any, owner: int) -> bool:
    """Whether a state returned by this very layer is on the graph closely behind a node."""
    queue, known = [node], {node}
    for place, each in enumerate(queue):
        if place >= NODES:
            return False
        if owner in each.metadata.get("gradreach.one_state", ()):
            return True
        new = [after for after, _ in each.next_functions if after is not None]
        queue += [after for after in new if after not in known]
        known.update(new)
    return False
