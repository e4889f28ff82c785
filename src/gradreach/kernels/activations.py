"""The activations of a recurrent cell: name, code of the native core, function and derivative."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["ACTIVATION_NAMES", "TANH", "Activation", "activation_of"]

# The code of each name in csrc; a number, once given, stays.
CODES = {
    "tanh": 0,
    "relu": 1,
    "leaky_relu": 2,
    "elu": 3,
    "selu": 4,
    "softsign": 5,
    "hardtanh": 6,
    "identity": 7,
    "sigmoid": 8,
    "gelu": 9,
    "silu": 10,
    "modrelu": 11,
}
ACTIVATION_NAMES = tuple(CODES)

# The two that have a shape parameter, with torch's own default of it.
PARAMETERS = {"leaky_relu": 0.01, "elu": 1.0}

# Klambauer et al. (2017), arXiv:1706.02515, to the digits torch uses.
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


@dataclass(frozen=True, slots=True)
class Activation:
    """One elementwise function of a pre-activation, by name or as the user's own callable.

    Args:
        name: One of `ACTIVATION_NAMES`, or the callable's own name.
        parameter: Slope of ``leaky_relu``, α of ``elu``; 0 for the others.
        custom: The user's function; ``None`` for the named ones.

    Example:
        >>> Activation("leaky_relu", 0.1)(torch.tensor([-2.0, 3.0]))
        tensor([-0.2000,  3.0000])
    """

    name: str
    parameter: float = 0.0
    custom: Callable[[Tensor], Tensor] | None = None

    @property
    def code(self) -> int | None:
        """Number of the activation in the native core; ``None`` for a user's callable."""
        return None if self.custom is not None else CODES[self.name]

    @property
    def has_bias(self) -> bool:
        """Whether it carries a learned bias of its own, one number per unit (modReLU)."""
        return self.custom is None and self.name == "modrelu"

    def shown(self) -> list[str]:
        """Return the arguments that ask for it, for a layer's line; none for tanh."""
        if self == TANH:
            return []
        if self.custom is not None:
            return [f"nonlinearity={self.name}"]
        parts = [f"nonlinearity={self.name!r}"]
        return [*parts, f"slope={self.parameter}"] if self.name in PARAMETERS else parts

    def __call__(self, values: Tensor, bias: Tensor | None = None) -> Tensor:
        """Apply it; ``bias``, ``(H,)``, is modReLU's and ``None`` for the others."""
        if self.custom is not None:
            return self.custom(values)
        return FUNCTIONS[self.name](values, self.parameter, bias)

    def derivative(self, values: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return φ' at the pre-activations; at a kink the value torch's backward takes.

        A user's callable is differentiated by autograd, as an elementwise function.
        """
        if self.custom is not None:
            with torch.enable_grad():
                at = values.detach().requires_grad_()
                slope: Tensor = torch.autograd.grad(self.custom(at).sum(), at)[0]
            return slope
        return DERIVATIVES[self.name](values, self.parameter, bias)


TANH = Activation("tanh")


def activation_of(
    nonlinearity: str | Callable[[Tensor], Tensor], slope: float | None = None
) -> Activation:
    """Read the ``nonlinearity`` and ``slope`` arguments of a layer.

    Raises:
        ValueError: A name that is not known, or a slope where the activation has none.
        TypeError: Neither a name nor a callable.

    Example:
        >>> activation_of("elu").parameter, activation_of("elu", slope=0.5).parameter
        (1.0, 0.5)
    """
    if not isinstance(nonlinearity, str):
        if not callable(nonlinearity):
            raise TypeError(
                f"nonlinearity={nonlinearity!r}: expected a name or an elementwise function of"
                f" tensors, got {type(nonlinearity).__name__}"
            )
        _refuse_slope(slope, "a function", "write it into the function")
        name = getattr(nonlinearity, "__name__", type(nonlinearity).__name__)
        return Activation(name, custom=nonlinearity)
    if nonlinearity not in CODES:
        # torch's words first, so that code which matches them goes on working.
        raise ValueError(
            f"Unknown nonlinearity '{nonlinearity}'. Select from {', '.join(ACTIVATION_NAMES)},"
            " or give an elementwise function of tensors."
        )
    if nonlinearity not in PARAMETERS:
        _refuse_slope(slope, f"nonlinearity={nonlinearity!r}", "leave it out")
        return Activation(nonlinearity)
    value = PARAMETERS[nonlinearity] if slope is None else float(slope)
    if not math.isfinite(value):
        raise ValueError(f"slope={slope!r}: expected a finite number")
    return Activation(nonlinearity, value)


def _refuse_slope(slope: float | None, what: str, fix: str) -> None:
    if slope is not None:
        raise ValueError(
            f"slope={slope!r} belongs to {' and '.join(PARAMETERS)}, {what} has none: {fix}"
        )


def _modrelu(values: Tensor, _: float, bias: Tensor | None) -> Tensor:
    """Arjovsky et al. (2016), arXiv:1511.06464, on reals."""
    assert bias is not None
    return values.sign() * F.relu(values.abs() + bias)


def _modrelu_slope(values: Tensor, _: float, bias: Tensor | None) -> Tensor:
    assert bias is not None
    return ((values.abs() + bias > 0) & (values != 0)).to(values.dtype)


def _gelu_slope(values: Tensor, _: float, __: Tensor | None) -> Tensor:
    density = torch.exp(-0.5 * values.square()) / math.sqrt(2 * math.pi)
    slope: Tensor = torch.special.ndtr(values) + values * density
    return slope


def _silu_slope(values: Tensor, _: float, __: Tensor | None) -> Tensor:
    gate = values.sigmoid()
    slope: Tensor = gate * (1 + values * (1 - gate))
    return slope


Function = Callable[[Tensor, float, Tensor | None], Tensor]

FUNCTIONS: dict[str, Function] = {
    "tanh": lambda a, _, __: a.tanh(),
    "relu": lambda a, _, __: a.relu(),
    "leaky_relu": lambda a, slope, __: F.leaky_relu(a, slope),
    "elu": lambda a, alpha, __: F.elu(a, alpha),
    "selu": lambda a, _, __: F.selu(a),
    "softsign": lambda a, _, __: F.softsign(a),
    "hardtanh": lambda a, _, __: F.hardtanh(a),
    "identity": lambda a, _, __: a,
    "sigmoid": lambda a, _, __: a.sigmoid(),
    "gelu": lambda a, _, __: F.gelu(a),
    "silu": lambda a, _, __: F.silu(a),
    "modrelu": _modrelu,
}

DERIVATIVES: dict[str, Function] = {
    "tanh": lambda a, _, __: 1 - a.tanh().square(),
    "relu": lambda a, _, __: (a > 0).to(a.dtype),
    "leaky_relu": lambda a, slope, __: torch.where(a > 0, torch.ones_like(a), slope),
    "elu": lambda a, alpha, __: torch.where(a > 0, 1.0, alpha * a.clamp(max=0).exp()),
    "selu": lambda a, _, __: (
        SELU_SCALE * torch.where(a > 0, 1.0, SELU_ALPHA * a.clamp(max=0).exp())
    ),
    "softsign": lambda a, _, __: (1 + a.abs()).pow(-2),
    "hardtanh": lambda a, _, __: ((a > -1) & (a < 1)).to(a.dtype),
    "identity": lambda a, _, __: torch.ones_like(a),
    "sigmoid": lambda a, _, __: a.sigmoid() * (1 - a.sigmoid()),
    "gelu": _gelu_slope,
    "silu": _silu_slope,
    "modrelu": _modrelu_slope,
}
