"""Shortcuts through time: residual, Euler step, antisymmetric and skip connections."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Connections", "EulerStep", "Residual", "connections_of"]

# Kusupati et al. (2018), "FastGRNN", arXiv:1901.02358, section 3.1 and the authors' defaults:
# α = σ(-3) = 0.047 of the new, β = σ(3) = 0.953 of the old.
ALPHA_START, BETA_START = -3.0, 3.0

# A growth of 1 + 1e-3 a step is a factor e within 1,000 steps; less is no cause for alarm.
ALARMING_GROWTH = 1 + 1e-3


@dataclass(frozen=True, slots=True)
class EulerStep:
    """Read the recurrence as one forward Euler step: ``h_t = h_{t-1} + ε·φ(…)``.

    With ``antisymmetric`` the recurrent matrix is ``W - Wᵀ - γI``, whose eigenvalues all have
    real part -γ: the differential equation neither explodes nor forgets. The forward Euler
    step of it is stable where ``|1 + ε·λ| ≤ 1`` for every eigenvalue λ, which needs γ > 0;
    `RNN.euler_growth` says by which factor a step grows with the present weights.

    Args:
        epsilon: Step size ε.
        antisymmetric: Use ``W - Wᵀ - γI`` in place of W.
        gamma: Diffusion γ.

    Raises:
        ValueError: ε not positive, γ negative, or γ given without ``antisymmetric``.

    Reference:
        Haber & Ruthotto (2017), arXiv:1705.03341; Chang et al. (2019), arXiv:1902.09689.

    Example:
        >>> EulerStep(0.1, gamma=0.01)
        EulerStep(epsilon=0.1, antisymmetric=True, gamma=0.01)
    """

    epsilon: float
    antisymmetric: bool = True
    gamma: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.epsilon) and self.epsilon > 0):
            raise ValueError(f"EulerStep(epsilon={self.epsilon!r}): expected a number above 0")
        if not (math.isfinite(self.gamma) and self.gamma >= 0):
            raise ValueError(f"EulerStep(gamma={self.gamma!r}): expected 0 or a number above 0")
        if self.gamma and not self.antisymmetric:
            raise ValueError(
                f"EulerStep(gamma={self.gamma!r}, antisymmetric=False): γ belongs to the"
                " antisymmetric matrix W - Wᵀ - γI; give antisymmetric=True, or no gamma"
            )

    def matrix(self, weight: Tensor) -> Tensor:
        """Return the recurrent matrix that the step uses, differentiably in W."""
        if not self.antisymmetric:
            return weight
        difference = weight - weight.T
        if not self.gamma:
            return difference
        return difference - self.gamma * torch.eye(
            len(weight), dtype=weight.dtype, device=weight.device
        )

    def growth(self, weight: Tensor) -> float:
        """Return the largest ``|1 + ε·λ|``: how a step scales its worst direction at φ' = 1.

        Cost:
            The eigenvalues of one ``(H, H)`` matrix.

        Example:
            >>> rotation = torch.tensor([[0.0, 0.5], [-0.5, 0.0]])  # W - Wᵀ: λ = ±i
            >>> round(EulerStep(0.1).growth(rotation), 4)
            1.005
            >>> EulerStep(0.1, gamma=0.1).growth(rotation) <= 1
            True
        """
        with torch.no_grad():
            values = weight.detach().double()
            if self.antisymmetric:
                # i·(W - Wᵀ) is Hermitian: its eigenvalues are real and cheaper.
                turning = torch.linalg.eigvalsh(1j * (values - values.T))
                eigenvalues = torch.complex(torch.full_like(turning, -self.gamma), turning)
            else:
                eigenvalues = torch.linalg.eigvals(values)
            return float((1 + self.epsilon * eigenvalues).abs().max())


Residual = bool | str | tuple[float, float] | EulerStep


@dataclass(frozen=True, slots=True)
class Connections:
    """What h_t gets besides the plain cell, of one layer.

    Args:
        residual: ``(α, β)`` of ``h_t = α·u_t + β·h_{t-1}``; ``None`` without a residual.
        learned: Whether α and β are learned numbers.
        euler: The Euler step that the residual came from.
        lags: Lags of the skips.
        skip_weight: One fixed weight per lag, or ``"learned"``.
    """

    residual: tuple[float, float] | None = None
    learned: bool = False
    euler: EulerStep | None = None
    lags: tuple[int, ...] = ()
    skip_weight: tuple[float, ...] | str = ()

    @property
    def skips(self) -> tuple[int, ...]:
        """Lags as the kernels count them: a residual connection is one of lag 1."""
        return self.lags if self.residual is None else (1, *self.lags)

    @property
    def alters_weight(self) -> bool:
        """Whether the recurrent matrix is not the parameter itself."""
        return self.euler is not None and self.euler.antisymmetric

    def starts(self, hidden_size: int) -> dict[str, Tensor]:
        """Return the learned parameters, by their names without suffix, at their start."""
        start: dict[str, Tensor] = {}
        if self.learned:
            start["alpha"] = torch.tensor(ALPHA_START)
            start["beta"] = torch.tensor(BETA_START)
        if self.skip_weight == "learned":
            start["skip_weight"] = torch.ones(len(self.lags), hidden_size)
        return start

    def recurrent(self, weight: Tensor) -> Tensor:
        """Return the recurrent matrix, differentiably in the parameter."""
        return weight if self.euler is None else self.euler.matrix(weight)

    def scale(self, learned: Callable[[str], Tensor], like: Tensor) -> Tensor | None:
        """Return the factor of u_t, ``(H,)``, or ``None`` for 1."""
        size = like.shape[-1]
        if self.learned:
            return learned("alpha").sigmoid().expand(size)
        if self.residual is None or self.residual[0] == 1:
            return None
        return like.new_full((size,), self.residual[0])

    def carries(self, learned: Callable[[str], Tensor], like: Tensor) -> Tensor | None:
        """Return the factors of the earlier states, ``(S, H)``."""
        if not self.skips:
            return None
        size = like.shape[-1]
        rows: list[Tensor] = []
        if self.learned:
            rows.append(learned("beta").sigmoid().expand(1, size))
        elif self.residual is not None:
            rows.append(like.new_full((1, size), self.residual[1]))
        if self.skip_weight == "learned":
            rows.append(learned("skip_weight"))
        else:
            rows += [like.new_full((1, size), float(weight)) for weight in self.skip_weight]
        return rows[0] if len(rows) == 1 else torch.cat(rows)

    def shown(self) -> list[str]:
        """Return the arguments that ask for these connections, for a layer's line."""
        parts: list[str] = []
        if self.euler is not None:
            parts.append(f"residual={self.euler}")
        elif self.learned:
            parts.append("residual='learned'")
        elif self.residual is not None:
            parts.append(f"residual={True if self.residual == (1.0, 1.0) else self.residual}")
        if self.lags:
            parts.append(f"skip={self.lags[0] if len(self.lags) == 1 else self.lags}")
        if self.skip_weight == "learned":
            parts.append("skip_weight='learned'")
        elif set(self.skip_weight) - {1.0}:
            parts.append(f"skip_weight={self.skip_weight}")
        return parts


def connections_of(
    residual: Residual,
    skip: int | Sequence[int] | None,
    skip_weight: str | float | Sequence[float],
) -> Connections:
    """Read the ``residual``, ``skip`` and ``skip_weight`` arguments of a layer.

    Raises:
        ValueError: Values that make no sense, alone or together.
        TypeError: Something else than what the signature names.

    Example:
        >>> connections_of(True, (4, 8), "identity").skips
        (1, 4, 8)
    """
    lags = _lags_of(skip)
    weight = _skip_weight_of(skip_weight, lags)
    if residual is False:
        return Connections(lags=lags, skip_weight=weight)
    if residual is True:
        return Connections((1.0, 1.0), lags=lags, skip_weight=weight)
    if residual == "learned":
        return Connections((1.0, 1.0), learned=True, lags=lags, skip_weight=weight)
    if isinstance(residual, EulerStep):
        pair = (residual.epsilon, 1.0)
        return Connections(pair, euler=residual, lags=lags, skip_weight=weight)
    return Connections(_pair_of(residual), lags=lags, skip_weight=weight)


def _pair_of(residual: object) -> tuple[float, float]:
    numbers = tuple(residual) if isinstance(residual, Sequence) else ()
    if (
        isinstance(residual, str)
        or len(numbers) != 2
        or not all(isinstance(number, int | float) for number in numbers)
        or not all(math.isfinite(number) for number in numbers)
    ):
        raise ValueError(
            f"residual={residual!r}: expected False, True, 'learned', two finite numbers"
            " (alpha, beta) or an EulerStep"
        )
    return float(numbers[0]), float(numbers[1])


def _lags_of(skip: int | Sequence[int] | None) -> tuple[int, ...]:
    if skip is None:
        return ()
    lags = tuple(skip) if isinstance(skip, Sequence) else (skip,)
    if not all(type(lag) is int for lag in lags):
        raise TypeError(f"skip={skip!r}: expected a number of steps, or several of them")
    if any(lag < 2 for lag in lags):
        raise ValueError(
            f"skip={skip!r}: expected lags of 2 steps or more; a skip of 1 is the residual"
            " connection: residual=True"
        )
    if len(set(lags)) != len(lags):
        raise ValueError(f"skip={skip!r}: each lag once; a factor is given by skip_weight")
    return lags


def _skip_weight_of(
    weight: str | float | Sequence[float], lags: tuple[int, ...]
) -> tuple[float, ...] | str:
    if not lags and weight != "identity":
        raise ValueError(f"skip_weight={weight!r} weighs a skip, but there is none: give skip")
    if weight == "learned":
        return "learned"
    if weight == "identity":
        return (1.0,) * len(lags)
    if isinstance(weight, int | float) and not isinstance(weight, bool):
        weight = (weight,) * len(lags)
    if isinstance(weight, str) or not isinstance(weight, Sequence) or len(weight) != len(lags):
        raise ValueError(
            f"skip_weight={weight!r}: expected 'identity', 'learned', one number, or one"
            f" number per lag ({len(lags)})"
        )
    return tuple(float(value) for value in weight)
