"""What layers and cells share: the remedies' arguments, learned numbers and starting values."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import Parameter

from gradreach.kernels.activations import Activation
from gradreach.kernels.recurrence import GATES, CellWeights, Norms, Recurrence
from gradreach.nn.connections import ALARMING_GROWTH, Connections
from gradreach.nn.initialization import Init, initialize, set_forget_bias
from gradreach.nn.inside import Inside
from gradreach.nn.precision import converted

__all__ = ["ForgetBias", "NonLinearity", "Remedied", "refuse_residual"]

NonLinearity = str | Callable[[Tensor], Tensor]
ForgetBias = float | Literal["chrono"]


class Remedied(torch.nn.Module):
    """Adds the remedies to one of torch's recurrent modules.

    The parameters of torch's class keep their names and their order; the learned numbers of a
    remedy stand beside them under names of their own. Weights are read by attribute at each
    call, so that parametrisations and ``functional_call`` are seen.
    """

    kind: ClassVar[Literal["rnn", "gru", "lstm"]]
    hidden_size: int
    _complete = False  # the constructor has reached its end

    def _rows(self) -> list[list[str]]:
        """Return the names of torch's parameters, one row per layer and direction."""
        raise NotImplementedError

    def _configure(
        self,
        activation: Activation,
        connections: Connections,
        clip: float | None,
        init: Init | None,
        forget_bias: ForgetBias | None = None,
        max_lag: float | None = None,
        inside: Inside = Inside(),  # noqa: B008  (frozen)
    ) -> None:
        """Keep the remedies; before torch's constructor, whose draws come first."""
        if max_lag is not None and forget_bias is None:
            raise ValueError(f"max_lag={max_lag!r} belongs to forget_bias='chrono': give both")
        if inside.layer_norm and connections.alters_weight:
            raise ValueError(
                "layer_norm=True normalises the product with W - Wᵀ - γI and so undoes what the"
                " antisymmetric matrix is for; leave out one of the two"
            )
        self._cell = Recurrence(
            self.kind, activation, connections.skips, clip_of(clip), inside.recurrent_dropout,
            inside.zoneout, True, inside.layer_norm,
        )  # fmt: skip
        self._resting = replace(self._cell, recurrent_dropout=0.0, stochastic=False)
        self._inside = inside
        self._connections = connections
        self._init = init
        self._forget_bias, self._max_lag = forget_bias, max_lag

    def _finish(self) -> None:
        """Add the learned numbers of the remedies; after torch's constructor."""
        activation, starts = self._cell.activation, self._starts()
        torch_activations = ("tanh", "relu") if self.kind == "rnn" else ("tanh",)
        self._plain = (
            self._cell == Recurrence(self.kind, activation)
            and activation.custom is None
            and activation.name in torch_activations
        )
        self._bare = not starts and not self._cell.skips
        weight = getattr(self, self._rows()[0][0])
        for names in self._rows():
            for name, start in starts.items():
                own = torch.empty(start.shape, dtype=weight.dtype, device=weight.device)
                self.register_parameter(name + suffix_of(names), Parameter(own))
        self._complete = True
        self._start_remedies()

    def _starts(self) -> dict[str, Tensor]:
        """Return the remedies' learned numbers of one layer and direction, at their start."""
        starts = self._connections.starts(self.hidden_size)
        starts |= self._inside.starts(self.kind, GATES[self.kind], self.hidden_size)
        if self._cell.activation.has_bias:
            starts["activation_bias"] = torch.zeros(self.hidden_size)  # modReLU begins linear
        return starts

    def reset_parameters(self) -> None:
        """Draw torch's start again, then that of ``init``, ``forget_bias`` and the remedies."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        for names in self._rows():
            for name in names:
                torch.nn.init.uniform_(getattr(self, name), -bound, bound)
        if self._complete:
            self._start_remedies()

    def _start_remedies(self) -> None:
        if self._init is not None:
            initialize(self, self._init)
        if self._forget_bias is not None:
            set_forget_bias(self, self._forget_bias, self._max_lag)
        with torch.no_grad():
            for name, start in self._starts().items():
                for names in self._rows():
                    getattr(self, name + suffix_of(names)).copy_(start)
        self._warn_of_growth()

    def _warn_of_growth(self) -> None:
        euler = self._connections.euler
        if euler is None or getattr(self, self._rows()[0][1]).is_meta:
            return
        worst = max(self.euler_growth().values())
        if worst > ALARMING_GROWTH:
            fix = "a larger gamma" if euler.antisymmetric else "antisymmetric=True"
            warnings.warn(
                f"{type(self).__name__}(residual={euler}): with the weights it starts from, a"
                f" step scales its worst direction by {worst:.4g} where φ' = 1, so the forward"
                f" Euler step is not stable; a smaller epsilon or {fix} makes it so",
                stacklevel=5,  # whoever calls the constructor
            )

    def euler_growth(self) -> dict[str, float]:
        """Return by how much one Euler step grows, per recurrent weight; stable up to 1.

        The largest ``|1 + ε·λ|`` over the eigenvalues λ of the recurrent matrix at the present
        weights: the linearised step where φ' = 1.

        Raises:
            ValueError: There is no Euler step.

        Cost:
            The eigenvalues of one ``(H, H)`` matrix per layer and direction.

        Reference:
            Haber & Ruthotto (2017), arXiv:1705.03341; Chang et al. (2019), arXiv:1902.09689.
        """
        euler = self._connections.euler
        if euler is None:
            raise ValueError(
                f"euler_growth: this {type(self).__name__} takes no Euler step; build it with"
                " residual=EulerStep(…)"
            )
        names = [row[1] for row in self._rows()]
        return {name: euler.growth(getattr(self, name)) for name in names}

    def _numbers(
        self,
        names: list[str],
        tensors: list[Tensor],
        dtype: torch.dtype | None,
        read: Callable[[str], Tensor] | None = None,
    ) -> CellWeights:
        """Return what the kernels are given of one layer and direction.

        Args:
            names: torch's names of the weights.
            tensors: The weights, read once by the caller.
            dtype: Convert to this one; ``None`` to leave all as it is.
            read: Gives a remedy's parameter by name; the module's own, as it stands, without.
        """
        if dtype is not None:
            tensors = [converted(tensor, dtype) for tensor in tensors]
        if self._bare:
            return CellWeights(*tensors)
        suffix, connections = suffix_of(names), self._connections

        def learned(name: str) -> Tensor:
            own: Tensor = getattr(self, name + suffix) if read is None else read(name + suffix)
            return own if dtype is None else converted(own, dtype)

        weight = tensors[1]
        biases: list[Tensor | None] = [*tensors[2:]] or [None, None]
        return CellWeights(
            tensors[0],
            connections.recurrent(weight),
            biases[0],
            biases[1],
            connections.scale(learned, weight),
            connections.carries(learned, weight),
            learned("activation_bias") if self._cell.activation.has_bias else None,
        )

    def _norms(self, names: list[str], dtype: torch.dtype | None) -> Norms | None:
        """Read the numbers of the layer norm of one layer and direction."""
        if not self._cell.layer_norm:
            return None
        wanted = self._inside.starts(self.kind, GATES[self.kind], self.hidden_size)
        tensors = [getattr(self, name + suffix_of(names)) for name in wanted]
        return Norms(*(t if dtype is None else converted(t, dtype) for t in tensors))

    def _shown(self) -> list[str]:
        """Return the remedies as they were asked for, for the module's line."""
        shown = self._cell.activation.shown() + self._connections.shown()
        shown += self._inside.shown()
        if self._cell.clip is not None:
            shown.append(f"clip_backpropagated_error={self._cell.clip}")
        for name in ("init", "forget_bias", "max_lag"):
            value = getattr(self, f"_{name}")
            if value is not None:
                shown.append(f"{name}={value!r}")
        return shown


def suffix_of(names: list[str]) -> str:
    """Return ``_l0`` or ``_l0_reverse`` of a row of torch's names, nothing of a cell's."""
    return names[0].removeprefix("weight_ih")


def clip_of(bound: float | None) -> float | None:
    """Return the bound of the back-propagated error."""
    if bound is None:
        return None
    if not (math.isfinite(bound) and bound > 0):
        raise ValueError(
            f"clip_backpropagated_error={bound!r}: expected a number above 0, or None for no bound"
        )
    return float(bound)


def refuse_residual(residual: object, kind: str, gate: str) -> None:
    """Say why a gated cell has no residual option."""
    if residual is not False:
        raise ValueError(
            f"residual={residual!r}: the {kind}'s {gate} already carries the state past the"
            " update, weighted per unit and step; to keep more of it, set forget_bias"
        )
