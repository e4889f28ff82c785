"""What one recurrent layer computes, in one direction; and the one door to computing it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from gradreach.kernels.activations import TANH, Activation

__all__ = ["GATES", "CellWeights", "Norms", "Recurrence", "run"]

GATES = {"rnn": 1, "gru": 3, "lstm": 4}  # rows of a weight matrix, in multiples of H


@dataclass(frozen=True, slots=True)
class Recurrence:
    """The equations of one layer in one direction, without its numbers.

    With u_t what the plain cell makes of x_t and h_{t-1}::

        rnn        u_t = φ(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)
        gru, lstm  u_t = the new hidden state of torch.nn.GRU, torch.nn.LSTM

        h_t = scale ⊙ u_t + Σ_j carries[j] ⊙ h_{t - skips[j]}

    where h_0 is the state given and h of a negative index counts as 0. A residual connection
    is a skip of lag 1. The cell state c of an LSTM is untouched by skips.

    Args:
        kind: ``"rnn"``, ``"gru"`` or ``"lstm"``.
        activation: φ; for gru and lstm that of the candidate, and of c in an lstm.
        skips: Lags in steps, each at least 1.
        clip: Bound of each entry of the error ∂L/∂a_t that goes back through the
            pre-activations of a step; ``None`` for none.
        recurrent_dropout: Probability with which a unit's h is hidden from the recurrent
            product, the same units at all steps of a sequence; what is left is scaled up.
        zoneout: Probabilities with which a unit of h, and of c, keeps its last value.
        stochastic: Draw the zoneout; ``False`` takes its mean, as in evaluation.
        layer_norm: Normalise both products of a step, and c on its way to h (see `Norms`).
    """

    kind: str
    activation: Activation = TANH
    skips: tuple[int, ...] = ()
    clip: float | None = None
    recurrent_dropout: float = 0.0
    zoneout: tuple[float, float] = (0.0, 0.0)
    stochastic: bool = True
    layer_norm: bool = False

    @property
    def reference_only(self) -> str | None:
        """Why no native core can compute this, in one sentence; ``None`` where one may."""
        if self.activation.custom is not None:
            return f"the activation {self.activation.name!r} is a Python function"
        if self.kind != "rnn" and self.activation.name != "tanh":
            return f"the activation of the {self.kind} is {self.activation.name!r}, not tanh"
        if self.clip is not None:
            return "the back-propagated error is clipped at each step"
        if self.recurrent_dropout or self.zoneout != (0.0, 0.0):
            return "recurrent dropout and zoneout draw masks inside the recurrence"
        if self.layer_norm:
            return "layer normalisation stands inside the cell"
        return None


class CellWeights(NamedTuple):
    """The numbers of one layer in one direction, in torch's gate order (G gates).

    Shape:
        input: ``(G·H, I)``; recurrent: ``(G·H, H)``; input_bias, recurrent_bias: ``(G·H,)``;
        scale: ``(H,)``, ``None`` for 1; carries: ``(S, H)``, one row per skip;
        activation_bias: ``(H,)``, modReLU's.
    """

    input: Tensor
    recurrent: Tensor
    input_bias: Tensor | None = None
    recurrent_bias: Tensor | None = None
    scale: Tensor | None = None
    carries: Tensor | None = None
    activation_bias: Tensor | None = None


class Norms(NamedTuple):
    """Learned numbers of layer normalisation inside a cell; its shifts are torch's biases.

    Shape:
        input, recurrent: ``(G·H,)``, gains of the two products; cell_gain, cell_shift:
        ``(H,)``, of c in an LSTM, else ``None``.
    """

    input: Tensor
    recurrent: Tensor
    cell_gain: Tensor | None = None
    cell_shift: Tensor | None = None


def run(
    cell: Recurrence,
    inputs: Tensor,
    hidden: Tensor,
    cell_state: Tensor | None,
    weights: CellWeights,
    batch_sizes: Tensor | None = None,
    reverse: bool = False,
    norms: Norms | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Run one layer in one direction over the whole sequence.

    The native core computes it where it can; the readable reference, to the same numbers up
    to rounding, where it cannot.

    Args:
        cell: The equations.
        inputs: The sequence, of any strides; or packed rows, when ``batch_sizes`` is given.
        hidden: State before the first step of each row.
        cell_state: The same for c of an LSTM, else ``None``.
        weights: The numbers.
        batch_sizes: Rows alive at each step, int64 on the CPU, never growing, as in a
            ``PackedSequence``.
        reverse: Visit each row from its own end to its start.
        norms: Where ``cell.layer_norm``.

    Shape:
        inputs: ``(T, B, I)`` or ``(N, I)``; hidden, cell_state: ``(B, H)``.
        returns: output ``(T, B, H)`` or ``(N, H)`` in the order of the inputs; h_n, and c_n
        of an LSTM, ``(B, H)``: each row's own last state.

    Example:
        >>> import torch
        >>> sum_up = Recurrence("rnn", Activation("identity"))
        >>> one = CellWeights(torch.ones(1, 1), torch.ones(1, 1))
        >>> output, h_n, _ = run(sum_up, torch.ones(3, 1, 1), torch.zeros(1, 1), None, one)
        >>> output.flatten()
        tensor([1., 2., 3.])
    """
    # Here, not above: both import this module for the two classes.
    from gradreach.kernels import native, reference

    reason = cell.reference_only or native.why_not(
        cell, inputs, hidden, cell_state, weights, batch_sizes
    )
    if reason is None:
        return native.run(cell, inputs, hidden, cell_state, weights, batch_sizes, reverse)
    return reference.run(cell, inputs, hidden, cell_state, weights, batch_sizes, reverse, norms)
