"""What a layer of our own adds to torch's cells, as one tape of it keeps it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from gradreach.kernels.recurrence import CellWeights, Recurrence

__all__ = ["Extension", "Learned"]

# Activations with |φ'| ≤ 1, or the larger of 1 and their parameter.
BOUNDED = frozenset(
    ("tanh", "relu", "leaky_relu", "elu", "softsign", "hardtanh", "identity", "sigmoid", "modrelu")
)


@dataclass(frozen=True)
class Learned:
    """A parameter beside torch's: which of the kernel's numbers it makes, and how.

    Args:
        number: ``"scale"``, ``"carries"`` or ``"activation_bias"``, a field of `CellWeights`; or
            ``"projection"``.
        pull: The chain rule: from gradients of the number, ``(…, *its shape)``, to those of the
            parameter, ``(…, *its shape)``.
    """

    name: str
    parameter: Tensor
    number: str
    pull: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Extension:
    """The equations and numbers of a layer that is more than torch's.

    What a step returns is::

        h_t = scale ⊙ u_t + Σ_j carries[j] ⊙ h_{t - d·skips[j]}

    or, of torch's LSTM with ``proj_size``, ``h_t = projection · u_t``.

    u_t is the cell's result from x_t and h_{t-d}; d is the dilation. The state given stands at
    the steps -d … -1, and what lies before counts as 0.

    Args:
        cell: The equations.
        numbers: As the kernels were given them; ``recurrent`` is the effective matrix.
        dilation: d.
        learned: Parameters beside torch's.
        mirrored: The effective matrix is W - Wᵀ - γI of the parameter W.
        projection: ``(P, H)``, where h is narrower than the cell.
    """

    cell: Recurrence
    numbers: CellWeights
    dilation: int = 1
    learned: tuple[Learned, ...] = ()
    mirrored: bool = False
    projection: Tensor | None = None

    @property
    def reaches(self) -> tuple[int, ...]:
        """How many steps back each of the skips goes."""
        return tuple(skip * self.dilation for skip in self.cell.skips)

    def why_not_markov(self) -> str | None:
        """Say why h_{t-1} alone does not make h_t, or ``None`` where it does."""
        if self.projection is not None:
            return (
                "an LSTM with proj_size has a narrower h than c: its Jacobians are not measured "
                "yet; read lag_profile"
            )
        if self.dilation > 1:
            return (
                f"with dilation {self.dilation} a step follows h_(t-{self.dilation}), not h_(t-1): "
                "there is no Jacobian of one step; read lag_profile"
            )
        longer = [skip for skip in self.cell.skips if skip > 1]
        if longer:
            return (
                f"with a skip of {longer[0]} steps h_(t-1) alone does not make h_t: there is no "
                "Jacobian of one step; read lag_profile"
            )
        return None

    def why_no_conditions(self) -> str | None:
        """Say why σ_max(W) alone proves nothing here, or ``None`` where it does as for tanh."""
        if self.cell.kind != "rnn":
            return None
        activation = self.cell.activation
        slope = max(1.0, abs(activation.parameter)) if activation.name in BOUNDED else None
        if slope != 1.0 or activation.custom is not None or self.cell.skips:
            return (
                "the conditions on W_hh are for |φ'| ≤ 1 and h_t = φ(…) alone, not for this "
                "activation or a residual connection: read layer.lyapunov"
            )
        return None

    def notes(self, recurrent_name: str) -> tuple[str, ...]:
        """Return what the reader of a record has to know."""
        notes = []
        if self.dilation > 1:
            notes.append(
                f"dilation {self.dilation}: the recurrence goes from step t-{self.dilation} to "
                "step t, and lags between its multiples have no path of their own"
            )
        if self.mirrored:
            notes.append(
                f"contributions of {recurrent_name} are those to the parameter W, whose matrix "
                "W - Wᵀ - γI the recurrence uses: c_k = C_k - C_kᵀ, C_k the term of that matrix"
            )
        return tuple(notes)

    def moved(self, change: Callable[[Tensor], Tensor]) -> Extension:
        """Return a copy whose tensors went through ``change`` (to another device, say)."""
        numbers = CellWeights(*(None if part is None else change(part) for part in self.numbers))  # type: ignore[arg-type]
        narrow = None if self.projection is None else change(self.projection)
        return replace(self, numbers=numbers, learned=(), projection=narrow)
