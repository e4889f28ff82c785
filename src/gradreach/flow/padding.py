"""Finds sequences that end in a constant tail, and the loss gradient that enters there."""

from __future__ import annotations

import torch
from torch import Tensor

from gradreach.flow.norms import scaled_norm
from gradreach.flow.track import Track
from gradreach.kernels.time_axis import TimeAxis

__all__ = ["constant_tails"]


def constant_tails(track: Track) -> tuple[Tensor, float]:
    """Return where each sequence's input stops changing, and what enters from there on.

    A tail is at least two equal steps long: padding looks like that, an embedding of a
    padding token and a run of zeros alike. Dropout on the input hides it.

    Returns:
        ``(B,)`` int64, the first step of the tail on the whole axis in the order of the sequence
        (the sequence's length where there is none); and the share of the norm of the arriving
        loss gradient that enters inside tails, NaN where none arrives.
    """
    inputs = track.joined([tape.inputs.detach() for tape in track.tapes(0, 0)])
    lengths = track.lengths()
    steps = torch.arange(len(inputs), device=inputs.device)[:, None]
    last = inputs.gather(0, (lengths - 1).clamp(min=0)[None, :, None].expand_as(inputs[:1]))
    same = (inputs == last).all(-1) & (steps < lengths)  # (T, B)
    changed = (~same & (steps < lengths)).long() * (steps + 1)
    start = changed.amax(0)  # one after the last step that differs from the end
    tails = torch.where(lengths - start >= 2, start, lengths)
    entering = torch.zeros(inputs.shape[:2], dtype=torch.float64, device=inputs.device)
    for name in ("output", "cell_output"):
        parts = [_norms(getattr(segment, name), segment.axis) for segment in track.segments]
        entering += track.joined(parts)
    rows = torch.arange(len(lengths), device=inputs.device)
    finals = [part for part in track.segments[-1].finals if part is not None]
    for part in finals:
        entering[(lengths - 1).clamp(min=0), rows] += scaled_norm(part).sum(0)
    inside = entering[(steps >= tails) & (steps < lengths)].sum()
    total = entering.sum()
    return tails, float(inside / total) if float(total) != 0 else float("nan")


def _norms(gradient: Tensor | None, axis: TimeAxis) -> Tensor:
    """Norm of what arrives at each step and row; zeros where nothing does."""
    if gradient is None:
        return torch.zeros(axis.steps, axis.batch, dtype=torch.float64, device=axis.lengths.device)
    return scaled_norm(gradient)
