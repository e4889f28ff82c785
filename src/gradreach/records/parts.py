"""Small records that a layer's record is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradreach.records.plain import Array, from_plain, to_plain

__all__ = ["BlindSpot", "Gate", "LayerTensors", "NonFinite", "ScaledArray"]


@dataclass(frozen=True)
class BlindSpot:
    """A module whose gradient flow was not measured, and why.

    Example:
        >>> print(BlindSpot("encoder.rnn", "LSTM", "it was not called"))
        encoder.rnn (LSTM): it was not called
    """

    module: str
    kind: str
    reason: str

    def __str__(self) -> str:
        return f"{self.module} ({self.kind}): {self.reason}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"module": self.module, "kind": self.kind, "reason": self.reason}


@dataclass(frozen=True)
class NonFinite:
    """The first NaN or infinity met by a layer, in the order of the recurrence.

    Args:
        where: ``"weight weight_hh_l0"``, ``"input"``, ``"state"`` or ``"gradient"``.
        step: Its step, ``-1`` for a weight. row: its row of the batch, ``-1`` for a weight.
    """

    where: str
    step: int
    row: int

    def __str__(self) -> str:
        if self.step < 0:
            return f"NaN or infinity in {self.where}"
        return (
            f"first NaN or infinity in the {self.where} of step {self.step}, batch row {self.row}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"where": self.where, "step": self.step, "row": self.row}


@dataclass(frozen=True, eq=False)
class Gate:
    """Openness of one gate: mean of its value in (0, 1).

    Shape:
        per_unit: ``(H,)``, over steps and batch. per_step: ``(T,)``, over units and batch.
    """

    per_unit: Array
    per_step: Array

    @property
    def mean(self) -> float:
        """Mean over everything."""
        return float(self.per_unit.mean()) if self.per_unit.size else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"per_unit": to_plain(self.per_unit), "per_step": to_plain(self.per_step)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Gate:
        """Undo :meth:`to_dict`."""
        return cls(from_plain(plain["per_unit"]), from_plain(plain["per_step"]))


@dataclass(frozen=True, eq=False)
class ScaledArray:
    """Vectors in the model's dtype, each with a float64 scale: ``values · scales``.

    Shape:
        values: ``(T, B, F)``. scales: ``(T, B)``, or ``None`` where the values are float64.
    """

    values: NDArray[np.floating[Any]]
    scales: Array | None

    def array(self) -> Array:
        """Return everything as float64, ``(T, B, F)``."""
        wide = self.values.astype(np.float64)
        return wide if self.scales is None else wide * self.scales[..., None]

    def step(self, step: int) -> Array:
        """Return one step as float64, ``(B, F)``."""
        wide: Array = self.values[step].astype(np.float64)
        return wide if self.scales is None else wide * self.scales[step][:, None]


@dataclass(frozen=True, eq=False)
class LayerTensors:
    """The large arrays behind a layer's curves, in recurrence time; NaN beyond a row's length.

    Shape:
        hidden, cell: ``(T, B, H)``, ∂L/∂h_k and ∂L/∂c_k. input_side, recurrent_side:
        ``(T, B, G·H)``, pre-activation gradients as W_ih and W_hh see them; where they differ
        (GRU), ``recurrent_last`` ``(T, B, H)`` replaces the last block of the input side.
        inputs ``(T, B, I)``, previous ``(T, B, H)``. terms: of parameters beside torch's,
        ``(T, *shape)`` by name.

    Args:
        mirrored: The weight W of a recurrence that uses W - Wᵀ - γI; ``""`` for none.
    """

    hidden: ScaledArray
    cell: ScaledArray | None
    input_side: ScaledArray
    recurrent_last: ScaledArray | None
    inputs: NDArray[np.floating[Any]]
    previous: NDArray[np.floating[Any]]
    terms: Mapping[str, Array] = field(default_factory=dict)
    mirrored: str = ""

    def side(self, *, recurrent: bool, step: int) -> Array:
        """Return the pre-activation gradient of one step, ``(B, G·H)`` float64."""
        delta = self.input_side.step(step)
        if recurrent and self.recurrent_last is not None:
            last = self.recurrent_last.step(step)
            delta = np.concatenate([delta[:, : -last.shape[1]], last], 1)
        return delta
