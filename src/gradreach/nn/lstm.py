"""Long short-term memory, with the remedies built in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gradreach.kernels.activations import activation_of
from gradreach.nn.base import RecurrentLayer, dilations_of
from gradreach.nn.cells import RecurrentCell
from gradreach.nn.connections import Connections, connections_of
from gradreach.nn.initialization import Init
from gradreach.nn.inside import inside_of
from gradreach.nn.remedies import ForgetBias, NonLinearity, refuse_residual

__all__ = ["LSTM", "LSTMCell"]


class LSTM(RecurrentLayer, torch.nn.LSTM):
    """`torch.nn.LSTM` with starting values for its gates and shortcuts through time.

    Called without the arguments after the star it is torch's layer: same call forms, same
    parameters under the same names, same numbers to rounding.

    Args:
        proj_size: Size of a projected h, as in torch; computed by torch's own kernel, and
            refused together with the remedies below that change the equations.
        nonlinearity: Activation of the candidate and of c on its way to h, a name or an
            elementwise function (see `RNN`); other than tanh it runs on the slower reference
            path.
        slope: Slope of ``leaky_relu`` (0.01 by default), α of ``elu`` (1).
        init: Starting values, such as ``"orthogonal"`` (each gate's block); torch's by default.
        forget_bias: Bias of the forget gate: a number, or ``"chrono"``.
        max_lag: For chrono: the longest lag of the task, in steps.
        residual: Refused: the cell state c is the residual path.
        skip, skip_weight, dilation, clip_backpropagated_error: See `RNN`; skips join h, not c.
        recurrent_dropout, zoneout, layer_norm: See `RNN`; ``zoneout`` may be a pair, for h and
            c, and ``layer_norm`` normalises c on its way to h, too (``norm_c_l0``,
            ``norm_bias_c_l0``).

    Raises:
        ValueError: Values that make no sense, alone or together.

    Shape:
        As torch.nn.LSTM.

    Reference:
        Hochreiter & Schmidhuber (1997); forget bias: Jozefowicz, Zaremba & Sutskever (2015);
        chrono: Tallec & Ollivier (2018), arXiv:1804.11188.

    Example:
        >>> lstm = LSTM(2, 128, forget_bias="chrono", max_lag=750)
        >>> output, (h_n, c_n) = lstm(torch.randn(35, 20, 2))
        >>> output.shape, c_n.shape
        (torch.Size([35, 20, 128]), torch.Size([1, 20, 128]))
    """

    kind = "lstm"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
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
        zoneout: float | tuple[float, float] = 0.0,
        layer_norm: bool = False,
    ) -> None:
        refuse_residual(residual, "LSTM", "cell state c")
        connections = connections_of(False, skip, skip_weight)
        self._configure(
            activation_of(nonlinearity, slope), connections, clip_backpropagated_error, init,
            forget_bias, max_lag, inside_of("lstm", recurrent_dropout, zoneout, layer_norm),
        )  # fmt: skip
        self._dilations = dilations_of(dilation, num_layers)
        torch.nn.LSTM.__init__(
            self, input_size, hidden_size, num_layers, bias, batch_first, dropout,
            bidirectional, proj_size, device=device, dtype=dtype,
        )  # fmt: skip
        self._finish()

    def _parts(self, hx: Any) -> tuple[Tensor, ...]:
        return tuple(hx)

    def _as_state(self, parts: tuple[Tensor, ...]) -> Any:
        return parts


class LSTMCell(RecurrentCell, torch.nn.LSTMCell):
    """`torch.nn.LSTMCell` with starting values for its gates.

    Args:
        nonlinearity, slope, init, forget_bias, max_lag, clip_backpropagated_error: See `LSTM`.
        residual: Refused: the cell state c is the residual path.

    Raises:
        ValueError: Values that make no sense, alone or together.

    Shape:
        As torch.nn.LSTMCell.

    Example:
        >>> cell = LSTMCell(2, 8, init="orthogonal", forget_bias=1.0)
        >>> h, c = cell(torch.randn(5, 2))
        >>> h.shape
        torch.Size([5, 8])
    """

    kind = "lstm"

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
        refuse_residual(residual, "LSTMCell", "cell state c")
        self._configure(
            activation_of(nonlinearity, slope), Connections(), clip_backpropagated_error, init,
            forget_bias, max_lag,
        )  # fmt: skip
        torch.nn.LSTMCell.__init__(self, input_size, hidden_size, bias, device=device, dtype=dtype)
        self._finish()

    def _parts(self, hx: Any) -> tuple[Tensor, ...]:
        return tuple(hx)

    def _as_state(self, parts: tuple[Tensor, ...]) -> Any:
        return parts
