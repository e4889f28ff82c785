"""The bias of the gate that keeps: a number, or drawn for a range of lags (chrono)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from gradreach.nn.layer_weights import LayerWeights, layer_weights

__all__ = ["set_forget_bias"]


def set_forget_bias(
    module: nn.Module | LayerWeights,
    forget_bias: float | Literal["chrono"],
    max_lag: float | None = None,
    *,
    generator: Generator | None = None,
) -> None:
    """Set what the keeping gate of an LSTM or GRU lets through when nothing else speaks.

    With bias b the gate stands at σ(b), and what it keeps decays by that factor per step: 0.5 at
    torch's start, 0.73 at 1, 0.98 at 4. ``"chrono"`` gives each unit its own time constant, drawn
    so that they spread over 1 … ``max_lag`` steps: b = log U([1, max_lag - 1]).

    LSTM (gates i, f, g, o): f; chrono also sets the input gate to -b. GRU (gates r, z, n): z, which
    is the gate that keeps, as h' = (1 - z) n + z h. torch adds two biases, so the value goes to
    ``bias_ih`` and the same entries of ``bias_hh`` become 0. All other biases stay. Every layer
    and direction is set; the parameters stay the same objects.

    Args:
        module: An LSTM or GRU, a cell of theirs, or the weights of one layer.
        forget_bias: A number for all units, or ``"chrono"``.
        max_lag: For chrono: the longest lag of the task, in steps, 2 or more.
        generator: Source of chrono's draws; torch's global one by default.

    Raises:
        TypeError: ``module`` is no recurrent layer.
        ValueError: There is no forget gate, no bias, or ``max_lag`` is missing or out of place.

    Reference:
        Gers, Schmidhuber & Cummins (2000); Jozefowicz, Zaremba & Sutskever (2015);
        chrono: Tallec & Ollivier (2018), section 2. arXiv:1804.11188.

    Example:
        >>> lstm = nn.LSTM(1, 2)
        >>> set_forget_bias(lstm, 4.0)
        >>> (lstm.bias_ih_l0 + lstm.bias_hh_l0)[2:4].tolist()  # f stands after i
        [4.0, 4.0]
        >>> set_forget_bias(lstm, "chrono", max_lag=2)  # the shortest: log 1
        >>> (lstm.bias_ih_l0 + lstm.bias_hh_l0)[:4].abs().tolist()
        [0.0, 0.0, 0.0, 0.0]
    """
    _check(forget_bias, max_lag)
    every = [module] if isinstance(module, LayerWeights) else layer_weights(module)
    pairs = [_biases(weights) for weights in every]  # all refusals before the first change
    with torch.no_grad():
        for weights, (bias_ih, bias_hh) in zip(every, pairs, strict=True):
            keep = slice(weights.hidden_size, 2 * weights.hidden_size)  # f of i f g o, z of r z n
            if max_lag is None:
                bias_ih[keep] = float(forget_bias)
            else:
                bias_ih[keep] = _log_lags(bias_ih[keep], max_lag, generator)
            bias_hh[keep] = 0.0
            if max_lag is not None and weights.kind == "lstm":
                enter = slice(0, weights.hidden_size)
                bias_ih[enter] = -bias_ih[keep]
                bias_hh[enter] = 0.0


def _check(forget_bias: object, max_lag: float | None) -> None:
    if forget_bias == "chrono":
        if max_lag is None or not (2 <= max_lag < math.inf):
            raise ValueError(
                'set_forget_bias: "chrono" needs `max_lag`, a finite number of steps from 2 up, '
                f"but got {max_lag!r}; give the longest lag of your task"
            )
    elif not _is_number(forget_bias):
        raise ValueError(
            f'set_forget_bias: `forget_bias` must be a finite number or "chrono", but is '
            f"{forget_bias!r}; 1.0 is the usual number"
        )
    elif max_lag is not None:
        raise ValueError(
            f'set_forget_bias: `max_lag` belongs to "chrono", but `forget_bias` is '
            f"{forget_bias!r}; leave `max_lag` out"
        )


def _is_number(value: object) -> bool:
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return numeric and math.isfinite(float(value))  # type: ignore[arg-type]


def _biases(weights: LayerWeights) -> tuple[Tensor, Tensor]:
    if weights.kind == "rnn":
        raise ValueError(
            "set_forget_bias: `module` must be an LSTM or GRU, but is a plain rnn, which has no "
            "forget gate; change `init` or add `residual` instead"
        )
    if weights.bias_ih is None or weights.bias_hh is None:
        raise ValueError(
            "set_forget_bias: `module` must have biases, but was built with bias=False; "
            "build it with bias=True"
        )
    return weights.bias_ih, weights.bias_hh


def _log_lags(like: Tensor, max_lag: float, generator: Generator | None) -> Tensor:
    # Drawn in float32 at least: bfloat16 holds only 128 values between 1 and 2.
    lags = torch.empty(
        like.shape,
        dtype=torch.promote_types(like.dtype, torch.float32),
        device=like.device if generator is None else generator.device,
    )
    return lags.uniform_(1.0, max_lag - 1.0, generator=generator).log_().to(like.device)
