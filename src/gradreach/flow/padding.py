"""Finds sequences that end in a constant tail, and the loss gradient that enters there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradreach.flow.norms import scaled_norm
from gradreach.flow.track import Track
from gradreach.kernels.time_axis import TimeAxis

__all__ = ["Tails", "constant_tails"]


@dataclass(frozen=True)
class Tails:
    """Where the sequences of a batch stop changing.

    Args:
        starts: ``(B,)`` int64, the first step of each tail on the whole axis in the order of the
            sequence; the sequence's length where there is none.
        gradient_share: Share of the norm of the arriving loss gradient that enters inside tails,
            NaN where none arrives.
        one_value: Share of the tails that hold the commonest of their values.
        elsewhere: Share of the steps outside tails that have that value too.
    """

    starts: Tensor
    gradient_share: float
    one_value: float
    elsewhere: float


def constant_tails(track: Track) -> Tails:
    """Find the constant tails of a module's input, and what enters there.

    A tail is at least two equal steps long: padding looks like that, an embedding of a
    padding token and a run of zeros alike. Dropout on the input hides it.
    """
    inputs = track.joined([tape.inputs.detach() for tape in track.tapes(0, 0)])
    lengths = track.lengths()
    steps = torch.arange(len(inputs), device=inputs.device)[:, None]
    last = inputs.gather(0, (lengths - 1).clamp(min=0)[None, :, None].expand_as(inputs[:1]))
    entering = _entering(track, lengths)
    total = float(entering.sum())
    if not _any_tail(inputs, last, lengths):
        nan = float("nan")
        return Tails(lengths.clone(), 0.0 if total > 0 else nan, nan, nan)
    same = (inputs == last).all(-1) & (steps < lengths)  # (T, B)
    changed = (~same & (steps < lengths)).long() * (steps + 1)
    start = changed.amax(0)  # one after the last step that differs from the end
    starts = torch.where(lengths - start >= 2, start, lengths)
    inside = entering[(steps >= starts) & (steps < lengths)].sum()
    share = float(inside) / total if total != 0 else float("nan")
    return Tails(starts, share, *_commonest(inputs, last[0], starts, lengths))


def _any_tail(inputs: Tensor, last: Tensor, lengths: Tensor) -> bool:
    """Whether some sequence's last two steps are equal: a glance that mostly settles it."""
    before = inputs.gather(0, (lengths - 2).clamp(min=0)[None, :, None].expand_as(inputs[:1]))
    return bool(((before == last).all(-1)[0] & (lengths >= 2)).any())


def _commonest(
    inputs: Tensor, last: Tensor, starts: Tensor, lengths: Tensor
) -> tuple[float, float]:
    """Return the share of tails with the commonest value, and how common it is outside them."""
    ends = last[starts < lengths]
    if not len(ends):
        return float("nan"), float("nan")
    values, counts = torch.unique(ends, dim=0, return_counts=True)
    value = values[counts.argmax()]
    outside = torch.arange(len(inputs), device=inputs.device)[:, None] < starts
    alike = (inputs == value).all(-1) & outside
    return float(counts.max()) / len(ends), float(alike.sum()) / max(int(outside.sum()), 1)


def _entering(track: Track, lengths: Tensor) -> Tensor:
    """Return the norm of the loss gradient that enters at each step and row, ``(T, B)``."""
    entering = torch.zeros(track.steps, len(lengths), dtype=torch.float64, device=lengths.device)
    for name in ("output", "cell_output"):
        parts = [_norms(getattr(segment, name), segment.axis) for segment in track.segments]
        entering += track.joined(parts)
    rows = torch.arange(len(lengths), device=lengths.device)
    for part in track.segments[-1].finals:
        if part is not None:
            entering[(lengths - 1).clamp(min=0), rows] += scaled_norm(part).sum(0)
    return entering


def _norms(gradient: Tensor | None, axis: TimeAxis) -> Tensor:
    """Norm of what arrives at each step and row; zeros where nothing does."""
    if gradient is None:
        return torch.zeros(axis.steps, axis.batch, dtype=torch.float64, device=axis.lengths.device)
    return scaled_norm(gradient)
