"""What the three recurrent cells share: one step, called by a loop of the user's own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.rnn import RNNCellBase

from gradreach.kernels import reference
from gradreach.kernels.extension import Extension
from gradreach.kernels.tape import LayerWeights
from gradreach.nn.precision import converted, precision_of
from gradreach.nn.remedies import Remedied
from gradreach.nn.replay import cell_parts, names_of, why_not

__all__ = ["RecurrentCell"]

NAMES = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]


class RecurrentCell(Remedied, RNNCellBase):
    """Base of `RNNCell`, `GRUCell` and `LSTMCell`: torch's cells with the remedies.

    A cell sees one earlier state only, so skips and dilation belong to the layers. A cell
    without remedies is computed by torch's own kernel.
    """

    def _rows(self) -> list[list[str]]:
        return [NAMES if self.bias else NAMES[:2]]

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """Run one step; arguments and results are those of the torch.nn cell of this name."""
        if self._plain:
            return super().forward(input, hx)
        batched = self._check(input, hx)
        if not batched:
            input = input.unsqueeze(0)
        names = self._rows()[0]
        tensors = [getattr(self, name) for name in names]
        if hx is None:
            zeros = input.new_zeros(len(input), self.hidden_size)
            state: tuple[Tensor, ...] = (zeros, zeros)
        else:
            state = tuple(part if batched else part.unsqueeze(0) for part in self._parts(hx))
        kind = "lstm_cell" if self.kind == "lstm" else self.kind
        precision = precision_of(kind, tensors[0], state[0])
        memory = state[1] if self.kind == "lstm" else None
        if precision is None:
            weights = self._numbers(names, tensors, None)
            after = reference.step(self._cell, input, state[0], memory, weights)
        else:
            compute, result = precision
            with torch.autocast(input.device.type, enabled=False):
                after = reference.step(
                    self._cell,
                    converted(input, compute),
                    converted(state[0], compute),
                    None if memory is None else converted(memory, compute),
                    self._numbers(names, tensors, compute),
                )
            after = (after[0].to(result), None if after[1] is None else after[1].to(result))
        parts = tuple(part for part in after if part is not None)
        return self._as_state(parts if batched else tuple(part.squeeze(0) for part in parts))

    def why_not_replayable(self) -> str | None:
        """Say why `gradreach.measure` cannot look into this cell, or ``None`` where it can."""
        return why_not(self)

    def used_weights(self) -> list[Tensor]:
        """Return all parameters as they stand, those of the remedies too."""
        return [getattr(self, name) for name in names_of(self)[0]]

    def tape_parts(self, weights: list[Tensor]) -> tuple[str, LayerWeights, Extension | None]:
        """Return what a tape of this cell needs; see `kernels.tape.ReplayableCell`."""
        return cell_parts(self, weights)

    def _check(self, input: Tensor, hx: Any) -> bool:
        """Refuse what torch refuses, in its words; return whether the input has a batch."""
        name = f"{self.kind.upper()}Cell"
        if input.dim() not in (1, 2):
            raise ValueError(f"{name}: Expected input to be 1D or 2D, got {input.dim()}D instead")
        parts = () if hx is None else self._parts(hx)
        for place, part in enumerate(parts):
            if part.dim() not in (1, 2):
                what = f"hx[{place}]" if self.kind == "lstm" else "hidden"
                raise ValueError(
                    f"{name}: Expected {what} to be 1D or 2D, got {part.dim()}D instead"
                )
        if input.size(-1) != self.input_size:
            raise RuntimeError(
                f"input has inconsistent input_size: got {input.size(-1)} expected"
                f" {self.input_size}"
            )
        for part in parts:
            if part.size(-1) != self.hidden_size:
                raise RuntimeError(
                    f"hidden0 has inconsistent hidden_size: got {part.size(-1)}, expected"
                    f" {self.hidden_size}"
                )
            if part.dim() == 2 and input.dim() == 2 and len(part) != len(input):
                raise RuntimeError(
                    f"Input batch size {len(input)} doesn't match hidden0 batch size {len(part)}"
                )
        return input.dim() == 2

    def _parts(self, hx: Any) -> tuple[Tensor, ...]:
        return (hx,)

    def _as_state(self, parts: tuple[Tensor, ...]) -> Any:
        return parts[0]

    def extra_repr(self) -> str:
        """Return torch's line, and the remedies as they were asked for."""
        line = f"{self.input_size}, {self.hidden_size}"
        return ", ".join([line, *([] if self.bias else ["bias=False"]), *self._shown()])
