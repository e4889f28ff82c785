"""Products of the Jacobian of one step, ∂s_t/∂s_{t-1}, with vectors, from a cell's derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradreach.kernels.equations import Coefficients, equations_for
from gradreach.kernels.extension import Extension
from gradreach.kernels.tape import Tape

__all__ = ["Jacobians", "jacobians_of", "rows_of"]


@dataclass(frozen=True)
class Jacobians:
    """Jacobians of the whole state, as linear maps that are never written out unless asked for.

    The state is h, or h on top of c for an LSTM; S is its size, H or 2H. With ``a`` the
    recurrent side of the pre-activations, a step does

    ==============  ==================================================================
    simple, gated   ``dh' = Σ_g recurrent_g ⊙ (W_g dh) + carry ⊙ dh``
    LSTM            ``dc' = carry ⊙ dc + Σ_{i,f,g} recurrent ⊙ (W dh)``;
                    ``dh' = cell_from_hidden ⊙ dc' + recurrent_o ⊙ (W_o dh)``
    ==============  ==================================================================

    Shape:
        weight: ``(G, H, H)``; recurrent: ``(…, G, H)``; carry, cell_from_hidden: ``(…, H)``.
        All float64. ``…`` are the Jacobians of the collection: steps and sequences.
    """

    weight: Tensor
    recurrent: Tensor
    carry: Tensor | None = None
    cell_from_hidden: Tensor | None = None

    @property
    def size(self) -> int:
        """S, numbers in the state."""
        hidden = self.recurrent.shape[-1]
        return hidden if self.cell_from_hidden is None else 2 * hidden

    def __getitem__(self, index: int | slice) -> Jacobians:
        """Pick along the first of the leading dimensions."""
        parts = (self.recurrent, self.carry, self.cell_from_hidden)
        picked = [None if part is None else part[index] for part in parts]
        assert picked[0] is not None
        return Jacobians(self.weight, picked[0], picked[1], picked[2])

    @classmethod
    def stacked(cls, parts: Sequence[Jacobians]) -> Jacobians:
        """Join collections of one cell along the first of the leading dimensions."""

        def joined(values: list[Tensor | None]) -> Tensor | None:
            present = [value for value in values if value is not None]
            return torch.cat(present) if present else None

        recurrent = torch.cat([part.recurrent for part in parts])
        carry = joined([part.carry for part in parts])
        through = joined([part.cell_from_hidden for part in parts])
        return cls(parts[0].weight, recurrent, carry, through)

    def flattened(self) -> Jacobians:
        """Return the collection with one leading dimension."""
        gates, hidden = self.recurrent.shape[-2:]
        return Jacobians(
            self.weight,
            self.recurrent.reshape(-1, gates, hidden),
            None if self.carry is None else self.carry.reshape(-1, hidden),
            None if self.cell_from_hidden is None else self.cell_from_hidden.reshape(-1, hidden),
        )

    def apply(self, vectors: Tensor, drive: Tensor | None = None) -> Tensor:
        """Return J·v: how a small change of the state before moves the state after.

        Args:
            drive: Change of the recurrent pre-activation besides W·dh, ``(…, G, H, k)``:
                what a change of the weights themselves adds.

        Shape:
            vectors and the result: ``(…, S, k)``.
        """
        gates, hidden = self.recurrent.shape[-2:]
        change = self.weight.flatten(0, 1) @ vectors[..., :hidden, :]
        change = change.reshape(*change.shape[:-2], gates, hidden, change.shape[-1])
        if drive is not None:
            change = change + drive
        change = self.recurrent[..., None] * change
        if self.cell_from_hidden is None:
            result = change.sum(-3)
            return result if self.carry is None else result + self.carry[..., None] * vectors
        assert self.carry is not None
        cell = self.carry[..., None] * vectors[..., hidden:, :] + change[..., :3, :, :].sum(-3)
        return torch.cat(
            [self.cell_from_hidden[..., None] * cell + change[..., 3, :, :], cell], dim=-2
        )

    def apply_transposed(self, vectors: Tensor) -> Tensor:
        """Return Jᵀ·v: what a gradient at the state after is at the state before."""
        hidden = self.recurrent.shape[-1]
        own = vectors[..., None, :hidden, :]
        if self.cell_from_hidden is None:
            change = self.recurrent[..., None] * own
            result = self._back(change)
            return result if self.carry is None else result + self.carry[..., None] * vectors
        assert self.carry is not None
        cell = vectors[..., hidden:, :] + self.cell_from_hidden[..., None] * own[..., 0, :, :]
        source = torch.cat([cell[..., None, :, :].expand(*cell.shape[:-2], 3, *cell.shape[-2:]),
                            own], dim=-3)  # fmt: skip
        return torch.cat(
            [self._back(self.recurrent[..., None] * source), self.carry[..., None] * cell], dim=-2
        )

    def _back(self, change: Tensor) -> Tensor:
        result: Tensor = self.weight.flatten(0, 1).T @ change.flatten(-3, -2)
        return result

    def of_hidden(self) -> Tensor:
        """Return ∂h_t/∂a_t of the recurrent pre-activations a, the incoming state held still.

        Shape:
            returns: ``(…, G, H)``.
        """
        if self.cell_from_hidden is None:
            return self.recurrent
        through_cell = self.cell_from_hidden[..., None, :] * self.recurrent[..., :3, :]
        return torch.cat([through_cell, self.recurrent[..., 3:, :]], dim=-2)

    def dense(self) -> Tensor:
        """Return the matrices, ``(…, S, S)``."""
        hidden = self.recurrent.shape[-1]
        parts = self.recurrent[..., None] * self.weight  # (…, G, H, H)
        if self.cell_from_hidden is None:
            whole: Tensor = parts.sum(-3)
            if self.carry is not None:
                whole.diagonal(dim1=-2, dim2=-1).add_(self.carry)
            return whole
        assert self.carry is not None
        whole = parts.new_zeros(*parts.shape[:-3], 2 * hidden, 2 * hidden)
        cell, gain = parts[..., :3, :, :].sum(-3), self.cell_from_hidden
        whole[..., hidden:, :hidden] = cell
        whole[..., :hidden, :hidden] = gain[..., None] * cell + parts[..., 3, :, :]
        whole[..., hidden:, hidden:].diagonal(dim1=-2, dim2=-1).copy_(self.carry)
        whole[..., :hidden, hidden:].diagonal(dim1=-2, dim2=-1).copy_(gain * self.carry)
        return whole

    def row_lengths(self) -> Tensor:
        """Return a bound of the length of each row, ``(…, S)``: what rounding is relative to."""
        rows = self.recurrent.abs() * torch.linalg.vector_norm(self.weight, dim=-1)  # (…, G, H)
        if self.cell_from_hidden is None:
            total: Tensor = rows.sum(-2)
            return total if self.carry is None else total + self.carry.abs()
        assert self.carry is not None
        cell = rows[..., :3, :].sum(-2) + self.carry.abs()
        return torch.cat([self.cell_from_hidden.abs() * cell + rows[..., 3, :], cell], dim=-1)


def jacobians_of(tape: Tape, start: int, stop: int) -> Jacobians:
    """Return the Jacobians of steps ``start … stop-1``, leading dimensions ``(K, B)``.

    A gradient uses φ' = 1 - h², as torch does. Here φ' of a tanh cell is recomputed as sech²
    of the pre-activation: 1 - h² is 0 from |a| = 19 on (9 in float32), and a single such zero
    would make the smallest singular value 0 and the last Lyapunov exponent -∞.
    """
    local = equations_for(tape).coefficients(tape, start, stop)
    if tape.kind == "tanh":
        local = Coefficients(_squared_sech(_pre_activation(tape, start, stop))[:, :, None])
    if tape.extension is not None:
        local = _connected(tape.extension, local)
    weight = tape.matrix.detach().double()
    return Jacobians(
        weight.view(-1, tape.hidden_size, tape.hidden_size), local.recurrent, local.carry,
        local.cell_from_hidden,
    )  # fmt: skip


def _connected(extension: Extension, local: Coefficients) -> Coefficients:
    """Add scale and residual to a simple cell's derivatives; gated cells have neither."""
    assert extension.why_not_markov() is None
    numbers, recurrent, carry = extension.numbers, local.recurrent, local.carry
    if numbers.scale is not None:
        recurrent = recurrent * numbers.scale.detach().double()
    if numbers.carries is not None:
        carry = numbers.carries.detach().double()[0].expand(recurrent[:, :, 0].shape)
    return replace(local, recurrent=recurrent, carry=carry)


def _pre_activation(tape: Tape, start: int, stop: int) -> Tensor:
    weights = tape.weights
    total = tape.inputs[start:stop].double() @ weights.input.detach().double().T
    total += tape.previous[start:stop].double() @ tape.matrix.detach().double().T
    for bias in (weights.input_bias, weights.recurrent_bias):
        if bias is not None:
            total += bias.detach().double()
    return total


def _squared_sech(values: Tensor) -> Tensor:
    """sech² by its decaying exponential: neither a cancellation nor an overflow."""
    decayed = torch.exp(-values.abs())
    slope: Tensor = (2.0 * decayed / (1.0 + decayed * decayed)).square()
    return slope


def rows_of(tape: Tape, rows: Tensor) -> Tape:
    """Return a copy of some sequences of a tape."""

    def picked(values: Tensor) -> Tensor:
        return values.index_select(1, rows)

    return replace(
        tape,
        axis=replace(tape.axis, lengths=tape.axis.lengths.index_select(0, rows)),
        inputs=picked(tape.inputs),
        previous=picked(tape.previous),
        hidden=picked(tape.hidden),
        previous_cell=None if tape.previous_cell is None else picked(tape.previous_cell),
        cell=None if tape.cell is None else picked(tape.cell),
        activations={name: picked(values) for name, values in tape.activations.items()},
    )
