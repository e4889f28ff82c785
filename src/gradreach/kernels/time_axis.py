"""Time of a batch of sequences, forwards or backwards, of equal or different lengths."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

__all__ = ["TimeAxis"]


@dataclass(frozen=True)
class TimeAxis:
    """Steps of a padded, time-major batch.

    *Module time* is the order of the user's sequence; *recurrence time* is the order in
    which a direction visits it. They differ for the reverse direction only, which starts
    at each sequence's own end.

    Args:
        steps: ``T``, the length of the longest sequence.
        lengths: ``(B,)`` int64, the length of each sequence in the user's batch order.
    """

    steps: int
    lengths: Tensor

    @classmethod
    def full(cls, steps: int, batch: int, device: torch.device) -> TimeAxis:
        """Return the axis of a batch whose sequences all have ``steps`` steps."""
        return cls(steps, torch.full((batch,), steps, dtype=torch.int64, device=device))

    @property
    def batch(self) -> int:
        """Number of sequences."""
        return len(self.lengths)

    @property
    def ragged(self) -> bool:
        """Whether some sequence is shorter than the longest."""
        return bool((self.lengths != self.steps).any())

    @property
    def valid(self) -> Tensor:
        """``(T, B)`` bool: the steps that exist."""
        steps = torch.arange(self.steps, device=self.lengths.device)
        return steps[:, None] < self.lengths

    def ends(self) -> dict[int, Tensor]:
        """Return, for each step at which sequences end, the rows that end there."""
        last = self.lengths - 1
        return {step: (last == step).nonzero()[:, 0] for step in set(last.tolist()) if step >= 0}

    def turned(self, sequence: Tensor, *, reverse: bool) -> Tensor:
        """Exchange module time and recurrence time of a ``(T, B, …)`` tensor.

        The exchange is its own inverse. Padding stays where it is.
        """
        if not reverse:
            return sequence
        if not self.ragged:
            return sequence.flip(0)
        steps = torch.arange(self.steps, device=sequence.device)[:, None]
        index = torch.where(steps < self.lengths, self.lengths - 1 - steps, steps)  # (T, B)
        index = index.reshape(index.shape + (1,) * (sequence.ndim - 2)).expand_as(sequence)
        return sequence.gather(0, index)

    @staticmethod
    def padded(data: Tensor, packed: PackedSequence) -> Tensor:
        """Lay packed rows out as ``(T, B, …)`` in the user's batch order, zeros beyond the ends."""
        plain = PackedSequence(data, packed.batch_sizes, packed.sorted_indices,
                               packed.unsorted_indices)  # fmt: skip
        return pad_packed_sequence(plain)[0]
