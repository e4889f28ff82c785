"""The gated recurrent unit, with the remedies built in."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gradreach.kernels.activations import activation_of
from gradreach.nn.base import RecurrentLayer, dilations_of
from gradreach.nn.cells import RecurrentCell
from gradreach.nn.connections import Connections, connections_of
from gradreach.nn.initialization import Init
from gradreach.nn.inside import inside_of
from gradreach.nn.remedies import ForgetBias, NonLinearity, refuse_residual

__all__ = ["GRU", "GRUCell"]


class GRU(RecurrentLayer, torch.nn.GRU):
    """`torch.nn.GRU` with starting values for its gates and shortcuts through time.

    Called without the arguments after the star it is torch's layer: same call forms, same
    parameters under the same names, same numbers to rounding.

    Args:
        nonlinearity: Activation of the candidate, a name or an elementwise function (see
            `RNN`); other than tanh it runs on the slower reference path.
        slope: Slope of ``leaky_relu`` (0.01 by default), α of ``elu`` (1).
        init: Starting values, such as ``"orthogonal"`` (each gate's block); torch's by default.
        forget_bias: Bias of the gate z that keeps the state: a number, or ``"chrono"``.
        max_lag: For chrono: the longest lag of the task, in steps.
        residual: Refused: the gate z is the residual path.
        skip, skip_weight, dilation, clip_backpropagated_error: See `RNN`.
        recurrent_dropout, zoneout, layer_norm: See `RNN`.

    Raises:
        ValueError: Values that make no sense, alone or together.

    Shape:
        As torch.nn.GRU.

    Reference:
        Cho et al. (2014), arXiv:1406.1078; chrono: Tallec & Ollivier (2018), arXiv:1804.11188.

    Example:
        >>> gru = GRU(2, 8, forget_bias="chrono", max_lag=100)
        >>> output, h_n = gru(torch.randn(35, 20, 2))
        >>> output.shape
        torch.Size([35, 20, 8])
    """

    kind = "gru"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        *,
        nonlinearity: NonLinearity = "tanh",
        slope: float | None = None,
        init: Init | None = None,
        forget_bias: ForgetBias | None = None,
        max_lag: float | None = None,
        residual: bool = False,
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
        refuse_residual(residual, "GRU", "update gate z")
        connections = connections_of(False, skip, skip_weight)
        self._configure(
            activation_of(nonlinearity, slope), connections, clip_backpropagated_error, init,
            forget_bias, max_lag, inside_of("gru", recurrent_dropout, zoneout, layer_norm),
        )  # fmt: skip
        self._dilations = dilations_of(dilation, num_layers)
        torch.nn.GRU.__init__(
            self, input_size, hidden_size, num_layers, bias, batch_first, dropout,
            bidirectional, device=device, dtype=dtype,
        )  # fmt: skip
        self._finish()


class GRUCell(RecurrentCell, torch.nn.GRUCell):
    """`torch.nn.GRUCell` with starting values for its gates.

    Args:
        nonlinearity, slope, init, forget_bias, max_lag, clip_backpropagated_error: See `GRU`.
        residual: Refused: the update gate z is the residual path.

    Raises:
        ValueError: Values that make no sense, alone or together.

    Shape:
        As torch.nn.GRUCell.

    Example:
        >>> cell = GRUCell(2, 8, init="orthogonal", forget_bias=2.0)
        >>> cell(torch.randn(5, 2)).shape
        torch.Size([5, 8])
    """

    kind = "gru"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        *,
        nonlinearity: NonLinearity = "tanh",
        slope: float | None = None,
        init: Init | None = None,
        forget_bias: ForgetBias | None = None,
        max_lag: float | None = None,
        residual: bool = False,
        clip_backpropagated_error: float | None = None,
    ) -> None:
        refuse_residual(residual, "GRUCell", "update gate z")
        self._configure(
            activation_of(nonlinearity, slope), Connections(), clip_backpropagated_error, init,
            forget_bias, max_lag,
        )  # fmt: skip
        torch.nn.GRUCell.__init__(self, input_size, hidden_size, bias, device=device, dtype=dtype)
        self._finish()
