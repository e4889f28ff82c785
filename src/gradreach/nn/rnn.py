"""The plain recurrent layer, with the remedies built in."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gradreach.kernels.activations import activation_of
from gradreach.nn.base import RecurrentLayer, dilations_of
from gradreach.nn.cells import RecurrentCell
from gradreach.nn.connections import Residual, connections_of
from gradreach.nn.initialization import Init
from gradreach.nn.inside import inside_of
from gradreach.nn.remedies import NonLinearity

__all__ = ["RNN", "RNNCell"]


class RNN(RecurrentLayer, torch.nn.RNN):
    """`torch.nn.RNN` with any activation, starting values and shortcuts through time.

    Called without the arguments after the star it is torch's layer: same call forms, same
    parameters under the same names, same numbers to rounding. With them, step t is::

        u_t = φ(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)
        h_t = α u_t + β h_{t-1} + Σ_s w_s ⊙ h_{t-s}

    where h_0 is the state given and earlier states count as 0.

    Args:
        nonlinearity: ``tanh relu leaky_relu elu selu softsign hardtanh identity sigmoid gelu
            silu modrelu``, or any elementwise function of tensors, which runs on the slower
            reference path. modReLU learns ``activation_bias_l0``.
        slope: Slope of ``leaky_relu`` (0.01 by default), α of ``elu`` (1).
        init: Starting values: ``"identity"`` (IRNN), ``("identity", 0.99)``, ``"orthogonal"``,
            ``"np-rnn"``, …; torch's by default. See `initialize`.
        residual: ``True`` adds h_{t-1}; ``(alpha, beta)`` are α and β; ``"learned"`` learns
            them (FastRNN: ``alpha_l0`` and ``beta_l0``, stored before their sigmoid);
            `EulerStep` takes one step of a differential equation, antisymmetric if asked.
        skip: A lag s of 2 or more steps, or several of them.
        skip_weight: ``"identity"`` (w = 1), a number, one number per lag, or ``"learned"``:
            ``skip_weight_l0``, ``(S, H)``, starting from 1.
        dilation: The recurrence goes from step t-d to step t, in all layers or one d per layer.
            h_0 starts each of the d interleaved sequences, h_n is the state of the last step,
            and lags of ``skip`` count steps of the interleaved sequence.
        clip_backpropagated_error: Bound of each entry of the error ∂L/∂a_t as it is propagated back
            through the pre-activations of every step. This is not gradient clipping, which
            bounds the finished gradient of the weights: it changes the gradient's direction.
            Runs on the slower reference path.
        recurrent_dropout: Share of the units whose h the recurrent product does not see, the
            same ones at every step of a sequence; in training only. Reference path.
        zoneout: Share of the units that keep their value at a step; in evaluation each takes
            the mean. Reference path.
        layer_norm: Normalise W_ih x_t and W_hh h_{t-1}, with gains ``norm_ih_l0`` and
            ``norm_hh_l0``; torch's biases are the shifts. Reference path.

    Raises:
        ValueError: Values that make no sense, alone or together.

    Shape:
        As torch.nn.RNN.

    Reference:
        Le, Jaitly & Hinton (2015), arXiv:1504.00941; Kusupati et al. (2018), arXiv:1901.02358;
        Chang et al. (2017), arXiv:1710.02224; Chang et al. (2019), arXiv:1902.09689.

    Example:
        >>> rnn = RNN(2, 100, nonlinearity="leaky_relu", init="identity", residual=True, skip=8)
        >>> rnn
        RNN(2, 100, nonlinearity='leaky_relu', slope=0.01, residual=True, skip=8, init='identity')
        >>> output, h_n = rnn(torch.randn(35, 20, 2))
        >>> output.shape, h_n.shape
        (torch.Size([35, 20, 100]), torch.Size([1, 20, 100]))
    """

    kind = "rnn"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: NonLinearity = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        *,
        slope: float | None = None,
        init: Init | None = None,
        residual: Residual = False,
        skip: int | Sequence[int] | None = None,
        skip_weight: str | float | Sequence[float] = "identity",
        dilation: int | Sequence[int] = 1,
        clip_backpropagated_error: float | None = None,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
        layer_norm: bool = False,
        proj_size: int | None = None,
    ) -> None:
        if proj_size is not None:
            raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        activation = activation_of(nonlinearity, slope)
        connections = connections_of(residual, skip, skip_weight)
        self._configure(
            activation, connections, clip_backpropagated_error, init,
            inside=inside_of("rnn", recurrent_dropout, zoneout, layer_norm),
        )  # fmt: skip
        self._dilations = dilations_of(dilation, num_layers)
        self.nonlinearity = activation.name
        # torch's base class knows two modes; the weights are laid out alike for all.
        torch.nn.RNNBase.__init__(
            self, "RNN_RELU" if activation.name == "relu" else "RNN_TANH", input_size,
            hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            device=device, dtype=dtype,
        )  # fmt: skip
        self.mode = f"RNN_{activation.name.upper()}"
        self._finish()


class RNNCell(RecurrentCell, torch.nn.RNNCell):
    """`torch.nn.RNNCell` with any activation, starting values and a residual connection.

    Args:
        nonlinearity, slope, init, residual, clip_backpropagated_error: See `RNN`. The learned
            numbers are called ``alpha``, ``beta`` and ``activation_bias``.

    Raises:
        ValueError: Values that make no sense, alone or together.

    Shape:
        As torch.nn.RNNCell.

    Example:
        >>> cell = RNNCell(2, 8, nonlinearity="relu", init="identity", residual="learned")
        >>> cell(torch.randn(5, 2)).shape
        torch.Size([5, 8])
    """

    kind = "rnn"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: NonLinearity = "tanh",
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        *,
        slope: float | None = None,
        init: Init | None = None,
        residual: Residual = False,
        clip_backpropagated_error: float | None = None,
    ) -> None:
        activation = activation_of(nonlinearity, slope)
        connections = connections_of(residual, None, "identity")
        self._configure(activation, connections, clip_backpropagated_error, init)
        torch.nn.RNNCell.__init__(
            self, input_size, hidden_size, bias, activation.name, device=device, dtype=dtype
        )
        self._finish()
