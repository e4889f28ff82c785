"""What the three recurrent layers share: call forms, checks, layers and directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from gradreach.kernels import recurrence
from gradreach.kernels.native.remembering import Forward
from gradreach.kernels.recurrence import CellWeights, Norms
from gradreach.kernels.tape import Replay
from gradreach.nn.dilation import run_dilated
from gradreach.nn.precision import converted, precision_of
from gradreach.nn.remedies import Remedied
from gradreach.nn.remembered import remembered_replay
from gradreach.nn.replay import names_of, replay_own, why_not

__all__ = ["RecurrentLayer"]

State = tuple[Tensor, ...]  # (h,), or (h, c) of an LSTM, each (L·D, B, H)
Numbers = tuple[CellWeights, Norms | None]
Weights = list[list[Tensor]]  # torch's, one row per layer and direction


class RecurrentLayer(Remedied, torch.nn.RNNBase):
    """Base of `RNN`, `GRU` and `LSTM`: torch's interface over the kernels of this package."""

    _dilations: tuple[int, ...]

    def _rows(self) -> list[list[str]]:
        rows: list[list[str]] = self._all_weights
        return rows

    def _finish(self) -> None:
        """Add the remedies to the layer that torch's constructor has built."""
        super()._finish()
        self._plain = self._plain and set(self._dilations) == {1}
        if self.proj_size and not self._plain:
            raise ValueError(
                f"proj_size={self.proj_size}: a state smaller than the cell is computed by"
                " torch's own LSTM, which knows no remedies; leave out one of the two"
            )

    def flatten_parameters(self) -> None:
        """Lay the weights out for cuDNN, where the cell is torch's own; else do nothing."""
        if getattr(self, "_plain", True):
            super().flatten_parameters()

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Run the layer; arguments and results are those of the torch.nn layer of this name."""
        packed = isinstance(input, PackedSequence)
        data: Tensor = input.data if packed else input
        if self.proj_size or (self._plain and not data.is_cpu):
            return super().forward(input, hx)  # torch's own: cuDNN where there is one
        weights = [[getattr(self, name) for name in names] for names in self._all_weights]
        if packed:
            return self._forward_packed(input, hx, weights)
        batch_dim = 0 if self.batch_first else 1
        batched = data.dim() == 3
        if not batched:
            if data.dim() != 2:
                raise ValueError(
                    f"{self.kind.upper()}: Expected input to be 2D or 3D, got {data.dim()}D"
                    " tensor instead"
                )
            data = data.unsqueeze(batch_dim)
        hx = self._initial(data, hx, data.size(batch_dim), batched)
        self._check(data, hx, None, weights[0][0])
        output, last = self._run(
            data.transpose(0, 1) if self.batch_first else data, None, hx, weights
        )
        if self.batch_first:
            output = output.transpose(0, 1)
        if batched:
            return output, last
        parts = tuple(part.squeeze(1) for part in self._parts(last))
        return output.squeeze(batch_dim), self._as_state(parts)

    def _forward_packed(self, input: PackedSequence, hx: Any, weights: Weights) -> Any:
        data, batch_sizes, order, back = input
        hx = self._initial(data, hx, int(batch_sizes[0]), True)
        hx = self.permute_hidden(hx, order)
        self._check(data, hx, batch_sizes, weights[0][0])
        output, last = self._run(data, batch_sizes, hx, weights)
        return PackedSequence(output, batch_sizes, order, back), self.permute_hidden(last, back)

    def _parts(self, hx: Any) -> State:
        """Return a state as a tuple; torch's form of it is a bare tensor but for an LSTM."""
        return (hx,)

    def _as_state(self, parts: State) -> Any:
        return parts[0]

    def _initial(self, data: Tensor, hx: Any, batch: int, batched: bool) -> Any:
        """Return the state given, or zeros, as torch's layer would take it."""
        if hx is None:
            shape = (len(self._all_weights), batch, self.hidden_size)
            zeros = torch.zeros(shape, dtype=data.dtype, device=data.device)
            return self._as_state((zeros, zeros))
        parts = self._parts(hx)
        wanted = 3 if batched else 2
        if any(part.dim() != wanted for part in parts):
            raise RuntimeError(_wrong_dims(parts, wanted))
        return hx if batched else self._as_state(tuple(part.unsqueeze(1) for part in parts))

    def _check(self, data: Tensor, hx: Any, batch_sizes: Tensor | None, weight: Tensor) -> None:
        """Let torch complain in its own words, but only where something may be wrong."""
        if batch_sizes is not None:
            steps, batch, dims = len(batch_sizes), int(batch_sizes[0]), 2
        else:
            steps, batch, dims = data.size(0), data.size(1), 3
            if self.batch_first:
                steps, batch = batch, steps
        expected = (len(self._all_weights), batch, self.hidden_size)
        if (
            data.dtype != weight.dtype
            or data.dim() != dims
            or data.size(-1) != self.input_size
            or any(part.shape != expected for part in self._parts(hx))
        ):
            self._update_flat_weights()  # what torch compares dtypes with
            self.check_forward_args(data, hx, batch_sizes)
        if not steps:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        if batch_sizes is not None and int(batch_sizes.sum()) > data.size(0):
            raise RuntimeError(  # the kernels read what the sizes say
                f"{self.kind.upper()}: Expected packed data of {int(batch_sizes.sum())} rows, as"
                f" its batch_sizes say, got {data.size(0)}: were lengths beyond the padded"
                " sequence given to pack_padded_sequence?"
            )

    def _run(
        self, sequence: Tensor, batch_sizes: Tensor | None, hx: Any, weights: Weights
    ) -> tuple[Tensor, Any]:
        """Run all layers in the dtype that torch would; ``sequence`` is time-major or packed."""
        state = self._parts(hx)
        precision = precision_of(self.kind, weights[0][0], state[0])
        if precision is None:
            numbers = self._every_number(weights, None)
            output, last = self._layers(sequence, batch_sizes, state, numbers)
            return output, self._as_state(last)
        compute, result = precision
        with torch.autocast(sequence.device.type, enabled=False):
            output, last = self._layers(
                converted(sequence, compute),
                batch_sizes,
                tuple(converted(part, compute) for part in state),
                self._every_number(weights, compute),
            )
        return output.to(result), self._as_state(tuple(part.to(result) for part in last))

    def _every_number(self, weights: Weights, dtype: torch.dtype | None) -> list[Numbers]:
        return [
            (self._numbers(names, row, dtype), self._norms(names, dtype))
            for names, row in zip(self._all_weights, weights, strict=True)
        ]

    def _layers(
        self,
        sequence: Tensor,
        batch_sizes: Tensor | None,
        state: State,
        weights: list[Numbers],
    ) -> tuple[Tensor, State]:
        if len(weights) == 1:  # the usual case, with the fewest operations
            output, *last_parts = self._one(
                0, sequence, [part[0] for part in state], weights[0], batch_sizes, False
            )
            return output, tuple(part.unsqueeze(0) for part in last_parts if part is not None)
        entering = [part.unbind(0) for part in state]
        ways = 2 if self.bidirectional else 1
        last: list[list[Tensor]] = [[] for _ in state]
        for layer in range(self.num_layers):
            outputs = []
            for way in range(ways):
                place = layer * ways + way
                parts = [rows[place] for rows in entering]
                output, h_n, c_n = self._one(
                    layer, sequence, parts, weights[place], batch_sizes, way == 1
                )
                outputs.append(output)
                last[0].append(h_n)
                if c_n is not None:
                    last[1].append(c_n)
            sequence = outputs[0] if ways == 1 else torch.cat(outputs, -1)
            if self.dropout and self.training and layer + 1 < self.num_layers:
                sequence = torch.dropout(sequence, self.dropout, True)  # torch's own draw
        return sequence, tuple(torch.stack(part) for part in last)

    def _one(
        self,
        layer: int,
        sequence: Tensor,
        state: list[Tensor],
        numbers: Numbers,
        batch_sizes: Tensor | None,
        reverse: bool,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Run one layer in one direction."""
        weights, norms = numbers
        memory = state[1] if len(state) == 2 else None
        cell = self._cell if self.training else self._resting
        arguments = (cell, sequence, state[0], memory, weights, batch_sizes, reverse)
        if self._dilations[layer] == 1:
            return recurrence.run(*arguments, norms)
        return run_dilated(*arguments, self._dilations[layer], norms)

    def why_not_replayable(self) -> str | None:
        """Say why `gradreach.measure` cannot look into this layer, or ``None`` where it can."""
        return why_not(self)

    def used_weights(self) -> list[Tensor]:
        """Return all parameters as they stand, layer by layer, those of the remedies too."""
        return [getattr(self, name) for row in names_of(self) for name in row]

    def replay(
        self,
        weights: list[Tensor],
        inputs: Any,
        state: Any,
        output: Tensor,
        rng_state: Tensor | None,
    ) -> Replay:
        """Run a recorded call once more and return its tapes; see `kernels.tape.Replayable`."""
        return replay_own(self, weights, inputs, state, output, rng_state)

    def replay_remembered(
        self, weights: list[Tensor], inputs: Any, output: Tensor, forwards: list[Forward]
    ) -> Replay | None:
        """Return the tapes of a call from what it left; see `kernels.tape.Remembering`."""
        return remembered_replay(self, weights, inputs, output, forwards)

    def extra_repr(self) -> str:
        """Return torch's line, and the remedies as they were asked for."""
        shown = self._shown()
        if set(self._dilations) != {1}:
            same = len(set(self._dilations)) == 1
            shown.append(f"dilation={self._dilations[0] if same else self._dilations}")
        return ", ".join([torch.nn.RNNBase.extra_repr(self), *shown])


def dilations_of(dilation: int | Sequence[int], num_layers: int) -> tuple[int, ...]:
    """Read the ``dilation`` argument of a layer: one number for all, or one per layer."""
    each = tuple(dilation) if isinstance(dilation, Sequence) else (dilation,) * num_layers
    if any(type(d) is not int or d < 1 for d in each):
        raise ValueError(f"dilation={dilation!r}: expected 1 or more steps, or one such per layer")
    if len(each) != num_layers:
        raise ValueError(
            f"dilation={dilation!r} names {len(each)} layers, but num_layers={num_layers}:"
            " give one number for all, or one per layer"
        )
    return each


def _wrong_dims(parts: State, wanted: int) -> str:
    """Say in torch's words that a state does not go with its input."""
    form = "For batched 3-D input, " if wanted == 3 else "For unbatched 2-D input, "
    if len(parts) == 1:
        return form + f"hx should also be {wanted}-D but got {parts[0].dim()}-D tensor"
    got = ", ".join(f"{part.dim()}-D" for part in parts)
    return form + f"hx and cx should also be {wanted}-D but got ({got}) tensors"
