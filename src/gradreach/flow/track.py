"""One module's calls on one time axis, ready to be swept backwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradreach.flow.sources.links import Link
from gradreach.kernels.tape import Replay, Tape
from gradreach.kernels.time_axis import TimeAxis

__all__ = ["Segment", "Track"]


@dataclass
class Segment:
    """One call of a fused stack, or a whole loop over a cell.

    Shape:
        output: ``(T, B, D·H)`` gradient arriving at the top layer's output, module time.
        cell_output: ``(T, B, H)`` the same at c_t (loops over cells only).
        finals: per state part ``(L·D, B, H)``: gradient arriving at the returned states.

    Any of them is ``None`` where nothing arrived.

    Args:
        totals: ``output`` holds total state gradients rather than what came from outside.
    """

    replay: Replay
    axis: TimeAxis
    output: Tensor | None
    cell_output: Tensor | None
    finals: tuple[Tensor | None, ...]
    totals: bool = False


@dataclass
class Track:
    """Segments in call order.

    Args:
        name: ``"rnn"``, or ``"rnn#2"`` for a second axis of the same module.
        source: ``"fused"`` or ``"cells"``.
        links: ``links[j]`` ties segment ``j`` to ``j+1`` (:class:`Link`).
        cell_links: The same from step to step of a loop over a cell.
    """

    name: str
    kind: str
    source: str
    segments: list[Segment]
    links: list[str]
    layers: int
    directions: int
    cell_links: Sequence[str] = ()
    notes: tuple[str, ...] = ()

    def tapes(self, layer: int, direction: int) -> list[Tape]:
        """Return one layer's tapes, oldest segment first."""
        return [segment.replay.tapes[layer][direction] for segment in self.segments]

    def arriving_output(self, segment: int, direction: int) -> Tensor | None:
        """Return what arrives at one direction's output of a segment, in recurrence time."""
        part = self.segments[segment]
        if part.output is None:
            return None
        size = part.output.shape[-1] // self.directions
        chosen = part.output[..., direction * size : (direction + 1) * size]
        return part.axis.turned(chosen, reverse=direction == 1)

    @property
    def steps(self) -> int:
        """Steps on the whole axis."""
        return sum(segment.axis.steps for segment in self.segments)

    @property
    def connected(self) -> bool:
        """Whether the state went from step to step unchanged (or was cut): probes can follow."""
        return Link.TRANSFORMED not in (*self.links, *self.cell_links)

    def layer_name(self, layer: int, direction: int) -> str:
        """Return ``rnn.l0``, ``rnn.l0_reverse``, … or the bare name for a cell."""
        if self.source == "cells":
            return self.name
        return f"{self.name}.l{layer}" + ("_reverse" if direction else "")

    def steps_after(self, link: str) -> tuple[int, ...]:
        """Return the steps of the whole axis whose entering state came over such a link."""
        steps = [step for step, own in enumerate(self.cell_links, start=1) if own == link]
        first = 0
        for segment, own in zip(self.segments, self.links, strict=False):
            first += segment.axis.steps
            if own == link:
                steps.append(first)
        return tuple(steps)

    def lengths(self) -> Tensor:
        """Return each sequence's length on the whole axis, ``(B,)``."""
        return torch.stack([segment.axis.lengths for segment in self.segments]).sum(0)

    def joined(self, parts: list[Tensor]) -> Tensor:
        """Join per-segment ``(T_j, B, …)`` tensors of recurrence time into the whole axis.

        Ragged segments are closed up row by row, so that each sequence is contiguous; what
        lies beyond its length is whatever was padding.
        """
        if len(parts) == 1:
            return parts[0]
        whole = torch.cat(parts)
        if not any(segment.axis.ragged for segment in self.segments[:-1]):
            return whole
        valid = torch.cat([segment.axis.valid for segment in self.segments]).to(whole.device)
        order = torch.argsort((~valid).byte(), dim=0, stable=True)  # (T, B)
        index = order.reshape(order.shape + (1,) * (whole.ndim - 2)).expand_as(whole)
        return whole.gather(0, index)
