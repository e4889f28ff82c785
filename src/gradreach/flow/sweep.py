"""Sweeps gradient backwards through a track: layer by layer, segment by segment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from gradreach.flow.sources.links import Link
from gradreach.flow.track import Segment, Track
from gradreach.kernels.native.scan import KeptRooms
from gradreach.kernels.reverse_scan import (
    Arrivals,
    Chunk,
    StateFlow,
    keeping_scan,
    reverse_scan,
)
from gradreach.kernels.tape import Tape
from gradreach.kernels.unexplained import ROUNDING, unexplained

__all__ = [
    "Arriving",
    "Injection",
    "Keeper",
    "LossInjection",
    "Observer",
    "Sink",
    "final_gradients",
    "sweep",
    "sweep_layer",
]

# Per segment, what arrives at a layer's output: a function of (start, stop).
Arriving = Sequence[Callable[[int, int], Tensor] | None]
# Called with (layer, direction, segment, chunk); it keeps no tensor of the chunk.
Sink = Callable[[int, int, int, Chunk], None]
# Called with (layer, direction, segment): where the core is to keep what it finds in one go.
Keeper = Callable[[int, int, int], KeptRooms]
# Called with (layer, direction, what arrives).
Observer = Callable[[int, int, Arriving], None]


class Injection(Protocol):
    """Gradient put into a track from outside; ``rows`` independent gradients at once."""

    @property
    def rows(self) -> int:
        """P, the number of independent gradients."""
        ...

    def output(self, segment: int, direction: int) -> Callable[[int, int], Tensor] | None:
        """Return what arrives at the top layer's output in recurrence time, by steps."""
        ...

    def cell(self, segment: int) -> Callable[[int, int], Tensor] | None:
        """Return what arrives at the cell states of a cell loop."""
        ...

    def end(self, segment: int, layer: int, direction: int, flow: StateFlow) -> StateFlow:
        """Return what arrives at the last states, with the flow from the next segment in it."""
        ...


@dataclass
class LossInjection:
    """The gradient of the user's own backward pass, all of it."""

    track: Track
    rows: int = 1

    def output(self, segment: int, direction: int) -> Callable[[int, int], Tensor] | None:
        """Return the arriving output gradient of one direction."""
        arrived = self.track.arriving_output(segment, direction)
        return None if arrived is None else lambda start, stop: arrived[start:stop, None]

    def cell(self, segment: int) -> Callable[[int, int], Tensor] | None:
        """Return the arriving cell gradient of a cell loop."""
        arrived = self.track.segments[segment].cell_output
        return None if arrived is None else lambda start, stop: arrived[start:stop, None]

    def end(self, segment: int, layer: int, direction: int, flow: StateFlow) -> StateFlow:
        """Add what reaches the returned states beside the next segment."""
        outside = final_gradients(self.track, segment, layer, direction, flow)
        hidden = flow.hidden + outside.hidden
        if flow.cell is None or outside.cell is None:
            return StateFlow(hidden, flow.cell)
        return StateFlow(hidden, flow.cell + outside.cell)


def final_gradients(
    track: Track, segment: int, layer: int, direction: int, flow: StateFlow
) -> StateFlow:
    """Return what arrives at the returned states of a segment from outside the recurrence."""
    part = track.segments[segment]
    row = layer * track.directions + direction
    result = StateFlow(torch.zeros_like(flow.hidden),
                       None if flow.cell is None else torch.zeros_like(flow.cell))  # fmt: skip
    passed_on = segment < len(track.links) and track.links[segment] == Link.SAME
    rounding = ROUNDING[part.replay.tapes[layer][direction].rounded_to]
    for total, own, target in zip(
        part.finals, (flow.hidden, flow.cell), (result.hidden, result.cell), strict=False
    ):
        if total is None or own is None or target is None:
            continue
        arrived = total[row].double()[None]
        target += unexplained(arrived, own, rounding) if passed_on else arrived
    return result


def sweep(
    track: Track,
    injection: Injection,
    sink: Sink,
    observe: Observer | None = None,
    keeper: Keeper | None = None,
) -> None:
    """Sweep all layers, the top one first.

    Args:
        observe: Called before each layer and direction with what arrives at its output.
        keeper: Asked for memory instead of ``sink`` where the core can keep all by itself.

    Cost:
        One float64 reverse scan per layer, direction and segment, plus the product with
        W_ih that carries gradient to the layer below.
    """
    dense: list[Tensor] | None = None  # per segment (T, P, B, D·H) at the layer's output
    for layer in reversed(range(track.layers)):
        below = _buffers(track, layer, injection.rows) if layer else None
        for direction in range(track.directions):
            if dense is None:
                arriving: Arriving = [
                    injection.output(place, direction) for place in range(len(track.segments))
                ]
            else:
                arriving = [
                    _slices(segment, gradient, direction, track.directions)
                    for segment, gradient in zip(track.segments, dense, strict=True)
                ]
            if observe is not None:
                observe(layer, direction, arriving)
            sweep_layer(track, layer, direction, arriving, injection, sink, below, keeper)
        dense = None if below is None else [
            gradient if mask is None else gradient.mul_(mask[:, None])
            for gradient, mask in zip(below, _masks(track, layer - 1), strict=True)
        ]  # fmt: skip


def sweep_layer(
    track: Track,
    layer: int,
    direction: int,
    arriving: Arriving,
    injection: Injection,
    sink: Sink,
    below: list[Tensor] | None = None,
    keeper: Keeper | None = None,
) -> None:
    """Sweep one layer in one direction over all segments, the last one first.

    Args:
        arriving: Per segment, what arrives at the layer's output in recurrence time.
        below: Per segment, where to add the gradient of the layer's input, ``(T, P, B, I)``.
        keeper: As :func:`sweep`'s.
    """
    flow = StateFlow.zeros(track.tapes(layer, direction)[-1], injection.rows)
    for place in reversed(range(len(track.segments))):
        segment = track.segments[place]
        tape = segment.replay.tapes[layer][direction]
        if place < len(track.links) and track.links[place] != Link.SAME:
            flow = StateFlow.zeros(tape, injection.rows)
        end = injection.end(place, layer, direction, flow)
        if keeper is not None and below is None and injection.cell(place) is None:
            into = _kept(
                segment, tape, arriving[place], end, partial(keeper, layer, direction, place)
            )
            if into is not None:
                flow = into
                continue
        arrivals = Arrivals(arriving[place], end, injection.cell(place), segment.totals)
        turned = None if below is None else _Turned(tape, below[place], direction)

        def collect(chunk: Chunk, place: int = place, turned: _Turned | None = turned) -> None:
            if turned is not None:
                turned.add(chunk)
            sink(layer, direction, place, chunk)

        flow = reverse_scan(tape, arrivals, collect, passing=True)
        if turned is not None:
            turned.finish()


def _kept(
    segment: Segment,
    tape: Tape,
    arriving: Callable[[int, int], Tensor] | None,
    end: StateFlow,
    rooms: Callable[[], KeptRooms],
) -> StateFlow | None:
    """Scan one segment in one call that keeps everything; ``None`` where that is not possible."""
    if segment.totals or tape.extension is not None:
        return None
    whole = None if arriving is None else arriving(0, tape.axis.steps)[:, 0]
    return keeping_scan(tape, whole, end, rooms)


class _Turned:
    """Collects the gradient of a layer's input and lays it back into module time."""

    def __init__(self, tape: Tape, target: Tensor, direction: int) -> None:
        self.tape, self.target, self.reverse = tape, target, direction == 1
        self.weight = tape.weights.input.detach().double()
        self.own = torch.empty_like(target) if self.reverse else target

    def add(self, chunk: Chunk) -> None:
        product = chunk.input_side @ self.weight
        if self.reverse:
            self.own[chunk.start : chunk.stop] = product
        else:
            self.own[chunk.start : chunk.stop] += product

    def finish(self) -> None:
        if self.reverse:
            self.target += self.tape.axis.turned(self.own.transpose(1, 2), reverse=True).transpose(
                1, 2
            )  # batch next to time, as the axis expects


def _buffers(track: Track, layer: int, rows: int) -> list[Tensor]:
    buffers = []
    for tape in track.tapes(layer, 0):
        steps, batch, size = tape.inputs.shape
        shape = (steps, rows, batch, size)
        buffers.append(torch.zeros(shape, dtype=torch.float64, device=tape.inputs.device))
    return buffers


def _slices(
    segment: Segment, gradient: Tensor, direction: int, directions: int
) -> Callable[[int, int], Tensor]:
    size = gradient.shape[-1] // directions
    chosen = gradient[..., direction * size : (direction + 1) * size]
    if direction == 1:
        chosen = segment.axis.turned(chosen.transpose(1, 2), reverse=True).transpose(1, 2)
    return lambda start, stop: chosen[start:stop]


def _masks(track: Track, layer: int) -> list[Tensor | None]:
    return [segment.replay.masks[layer] for segment in track.segments]
