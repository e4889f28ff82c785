"""What can stand inside a recurrence besides its equations: dropout, zoneout, layer norm."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Inside", "inside_of"]


@dataclass(frozen=True, slots=True)
class Inside:
    """The parsed arguments ``recurrent_dropout``, ``zoneout`` and ``layer_norm``.

    Args:
        recurrent_dropout: Share of the units that the recurrent product does not see.
        zoneout: Shares of h and of c that keep their value at a step.
        layer_norm: Whether the products are normalised.
    """

    recurrent_dropout: float = 0.0
    zoneout: tuple[float, float] = (0.0, 0.0)
    layer_norm: bool = False

    def starts(self, kind: str, gates: int, hidden_size: int) -> dict[str, Tensor]:
        """Return the learned numbers, by their names without suffix, at their start."""
        if not self.layer_norm:
            return {}
        start = {name: torch.ones(gates * hidden_size) for name in ("norm_ih", "norm_hh")}
        if kind == "lstm":
            start["norm_c"] = torch.ones(hidden_size)
            start["norm_bias_c"] = torch.zeros(hidden_size)
        return start

    def shown(self) -> list[str]:
        """Return the arguments that ask for it, for a layer's line."""
        parts: list[str] = []
        if self.recurrent_dropout:
            parts.append(f"recurrent_dropout={self.recurrent_dropout}")
        if self.zoneout != (0.0, 0.0):
            same = self.zoneout[0] == self.zoneout[1]
            parts.append(f"zoneout={self.zoneout[0] if same else self.zoneout}")
        if self.layer_norm:
            parts.append("layer_norm=True")
        return parts


def inside_of(
    kind: str,
    recurrent_dropout: float,
    zoneout: float | tuple[float, float],
    layer_norm: bool,
) -> Inside:
    """Read the three arguments of a layer.

    Raises:
        ValueError: A share outside [0, 1), or a pair where there is no c.

    Example:
        >>> inside_of("lstm", 0.25, (0.05, 0.5), True).zoneout
        (0.05, 0.5)
    """
    if isinstance(zoneout, tuple) and kind != "lstm":
        raise ValueError(
            f"zoneout={zoneout!r}: a pair is for h and c of an LSTM; give one number, there is"
            " no c here"
        )
    pair = zoneout if isinstance(zoneout, tuple) else (zoneout, zoneout)
    if [0 <= share < 1 for share in pair] != [True, True]:
        raise ValueError(
            f"zoneout={zoneout!r}: expected a share from 0 to below 1, where a unit would never"
            " change; of an LSTM two, for h and c"
        )
    if not 0 <= recurrent_dropout < 1:
        raise ValueError(
            f"recurrent_dropout={recurrent_dropout!r}: expected a share from 0 to below 1, where"
            " nothing of the past would be left"
        )
    return Inside(float(recurrent_dropout), (float(pair[0]), float(pair[1])), bool(layer_norm))
