"""Published starting points of a recurrence: identity, orthogonal, positive-definite, IndRNN."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Generator, Tensor, nn

from gradreach.nn.layer_weights import LayerWeights

__all__ = [
    "FOR_PLAIN_RNN",
    "INITIALIZERS",
    "Initializer",
    "default",
    "identity",
    "indrnn",
    "indrnn_range",
    "normalized_positive_definite",
    "orthogonal",
]


class Initializer(Protocol):
    """Writes starting values into the weights of one layer in one direction, in place.

    Called without gradient recording. ``value`` is the number given beside the name, as in
    ``("identity", 0.99)``, or None.
    """

    def __call__(
        self, weights: LayerWeights, value: float | None, generator: Generator | None, /
    ) -> None:
        """Fill ``weights``, or raise ValueError before the first change."""


def default(weights: LayerWeights, value: float | None, generator: Generator | None) -> None:
    """Draw every weight as torch does: U(-1/√H, 1/√H), with torch's own numbers for a seed."""
    _takes_no_value("default", value)
    bound = 1 / math.sqrt(weights.hidden_size)
    for tensor in weights.present():
        tensor.copy_(
            _empty(tensor, tensor.dtype, generator).uniform_(-bound, bound, generator=generator)
        )


def identity(weights: LayerWeights, value: float | None, generator: Generator | None) -> None:
    """Start at ``value``·I, biases 0, input weights N(0, 0.001²): the IRNN of Le et al.

    The factor of an active ReLU step is then exactly ``value`` (1 if not given): the state is
    kept, and the gradient with it. Slightly below 1 it fades instead of adding up.
    """
    _refuse_unless_plain("identity", weights)
    _zero_biases(weights)
    weights.weight_hh.zero_().fill_diagonal_(1.0 if value is None else value)
    # 0.001 is the standard deviation, as in the paper: the input hardly disturbs what is kept.
    weights.weight_ih.copy_(0.001 * _normal(weights.weight_ih, generator))


def scaled_identity(
    weights: LayerWeights, value: float | None, generator: Generator | None
) -> None:
    """Start at ``value``·I, and insist on the value."""
    if value is None:
        raise ValueError(
            'initialize: `init` "scaled_identity" needs its scale, but came without; '
            'pass ("scaled_identity", 0.99), or "identity" for 1'
        )
    identity(weights, value, generator)


def orthogonal(weights: LayerWeights, value: float | None, generator: Generator | None) -> None:
    """Start each gate's own H×H block at ``value`` (1 if not given) times a random rotation.

    Block by block: the fused (G·H, H) matrix being orthogonal would leave each gate with singular
    values around 1/√G. With a projection the blocks (H, P) have orthonormal columns. Input weights
    and biases stay.
    """
    _refuse_elementwise("orthogonal", weights)
    for block in weights.recurrent_blocks():
        # QR is not there for half precision: drawn in float32 at least.
        drawn = _empty(block, torch.promote_types(block.dtype, torch.float32), generator)
        gain = 1.0 if value is None else value
        block.copy_(nn.init.orthogonal_(drawn, gain=gain, generator=generator))


def normalized_positive_definite(
    weights: LayerWeights, value: float | None, generator: Generator | None
) -> None:
    """Start at (A + I)/λ_max(A + I) with A = RᵀR/H, R normal; biases 0: the np-RNN.

    One direction is kept exactly (eigenvalue 1), all others fade, none faster than 1/λ_max ≈ 0.2
    per step. Input weights stay: the paper's scaling of them is not applied.
    """
    _takes_no_value("np-rnn", value)
    _refuse_unless_plain("np-rnn", weights)
    _zero_biases(weights)
    drawn = _normal(weights.weight_hh, generator)
    size = weights.hidden_size
    shifted = drawn.T @ drawn / size + torch.eye(size, dtype=drawn.dtype, device=drawn.device)
    weights.weight_hh.copy_(shifted / torch.linalg.eigvalsh(shifted)[-1])


def indrnn(weights: LayerWeights, value: float | None, generator: Generator | None) -> None:
    """Draw an elementwise recurrence u from U(0, 2^(1/T)), T = ``value`` steps."""
    if not weights.is_elementwise:
        shape = tuple(weights.weight_hh.shape)
        raise ValueError(
            'initialize: `init` "indrnn" must meet an elementwise recurrence, one number u per '
            f"unit, but `weight_hh{weights.suffix}` is a dense {shape} matrix, whose powers a "
            'bound on its entries does not bound; use "orthogonal" or ("identity", scale)'
        )
    if value is None:
        raise ValueError(
            'initialize: `init` "indrnn" needs the number of steps, but came without; '
            'pass ("indrnn", 784)'
        )
    low, high = indrnn_range(value)
    drawn = _empty(weights.weight_hh, weights.weight_hh.dtype, generator)
    weights.weight_hh.copy_(drawn.uniform_(low, high, generator=generator))


def indrnn_range(steps: float, *, last_layer: bool = False) -> tuple[float, float]:
    """Return the range of u in h' = φ(W x + u∘h) that ``steps`` steps bear.

    |u| ≤ 2^(1/T) keeps the factor of T steps at or below 2. Where only the last state is read,
    the last layer also starts at u ≥ 0.5^(1/T): at least half is still there after T steps.

    Reference:
        Li, Li, Cook, Zhu & Gao (2018), section 3. arXiv:1803.04831.

    Example:
        >>> low, high = indrnn_range(100, last_layer=True)
        >>> round(low**100, 6), round(high**100, 6)
        (0.5, 2.0)
    """
    if not 1 <= steps < math.inf:
        raise ValueError(
            f"indrnn_range: `steps` must be a finite number from 1 up, but is {steps!r}; "
            "give the length of your sequences"
        )
    return (0.5 ** (1 / steps) if last_layer else 0.0), 2.0 ** (1 / steps)


INITIALIZERS: dict[str, Initializer] = {
    "default": default,
    "identity": identity,
    "scaled_identity": scaled_identity,
    "orthogonal": orthogonal,
    "np-rnn": normalized_positive_definite,
    "indrnn": indrnn,
}
# In a gated layer weight_hh only steers gates; what is kept is decided by the gates.
FOR_PLAIN_RNN = ("identity", "scaled_identity", "np-rnn")


def _takes_no_value(name: str, value: float | None) -> None:
    if value is not None:
        raise ValueError(
            f'initialize: `init` "{name}" takes no number, but came with {value!r}; '
            f'pass "{name}" alone'
        )


def _refuse_elementwise(name: str, weights: LayerWeights) -> None:
    if weights.is_elementwise:
        raise ValueError(
            f'initialize: `init` "{name}" must meet a recurrent matrix, but '
            f'`weight_hh{weights.suffix}` holds one number per unit; use ("indrnn", steps)'
        )


def _refuse_unless_plain(name: str, weights: LayerWeights) -> None:
    _refuse_elementwise(name, weights)
    if weights.kind != "rnn":
        raise ValueError(
            f'initialize: `init` "{name}" must meet a plain rnn, where weight_hh itself carries '
            f'the state, but the layer is of kind {weights.kind}; use "orthogonal", or '
            "`forget_bias` for its memory"
        )


def _zero_biases(weights: LayerWeights) -> None:
    for bias in (weights.bias_ih, weights.bias_hh):
        if bias is not None:
            bias.zero_()


def _empty(like: Tensor, dtype: torch.dtype, generator: Generator | None) -> Tensor:
    device = like.device if generator is None else generator.device
    return torch.empty(like.shape, dtype=dtype, device=device)


def _normal(like: Tensor, generator: Generator | None) -> Tensor:
    dtype = torch.promote_types(like.dtype, torch.float32)
    return _empty(like, dtype, generator).normal_(generator=generator)
