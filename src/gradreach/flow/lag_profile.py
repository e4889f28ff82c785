"""How much of one loss step's gradient is left ℓ steps back."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from gradreach.flow.norms import scaled_norm, state_norm
from gradreach.flow.sources.links import Link
from gradreach.flow.sweep import final_gradients, sweep, sweep_layer
from gradreach.flow.track import Track
from gradreach.kernels.reverse_scan import Chunk, StateFlow

__all__ = ["Probe", "Ratios", "choose_probes", "lag_profiles", "loss_steps"]

MEMORY = 64 * 2**20  # bytes of probe gradients in memory at once


@dataclass(frozen=True)
class Probe:
    """One step of the loss: of segment ``segment``, ``back`` steps before each row's own end."""

    segment: int
    back: int
    step: int  # the name users see: its step on the whole axis


def loss_steps(track: Track) -> list[Probe]:
    """Return the steps at which a gradient enters from outside, oldest first.

    In ragged batches steps are counted from each sequence's own end.
    """
    found: list[Probe] = []
    first = 0
    for place, segment in enumerate(track.segments):
        steps, axis = segment.axis.steps, segment.axis
        entered = torch.zeros(steps, dtype=torch.bool, device=axis.lengths.device)  # by ``back``
        for gradient in (segment.output, segment.cell_output):
            if gradient is not None:
                touched = scaled_norm(gradient) != 0  # (T, B); true of NaN
                entered |= axis.turned(touched, reverse=True).any(1)
        layers = range(track.layers)
        if any(_arrives(track, place, layer, 0) for layer in layers):
            entered[0] = True
        if track.directions == 2 and any(_arrives(track, place, layer, 1) for layer in layers):
            entered[axis.lengths - 1] = True  # the reverse direction ends at each row's first step
        found += [Probe(place, back, first + steps - 1 - back)
                  for back in reversed(entered.nonzero()[:, 0].tolist())]  # fmt: skip
        first += steps
    return found


def choose_probes(candidates: list[Probe], wanted: int | Sequence[int], seed: int) -> list[Probe]:
    """Choose the loss steps to follow: all if few, else the last and a sample of the others.

    Args:
        wanted: Most probes to take, or the very steps (of the whole axis).

    Raises:
        ValueError: A named step is none at which loss gradient enters.
    """
    if not isinstance(wanted, int):
        by_step = {probe.step: probe for probe in candidates}
        missing = [step for step in wanted if step not in by_step]
        if missing:
            raise ValueError(
                f"measure(): argument 'lag_probes' names step {missing[0]}, where no gradient of "
                f"the loss enters; it enters at {_listed([p.step for p in candidates])}"
            )
        return [by_step[step] for step in wanted]
    if len(candidates) <= wanted or not wanted:
        return candidates[: wanted or 0]
    generator = torch.Generator().manual_seed(seed)
    # One from each of equal stretches, so that long and short lags are both seen; the last
    # loss step always, as only it reaches the longest lag.
    edges = torch.linspace(0, len(candidates) - 1, wanted).long().tolist()
    chosen = {len(candidates) - 1}
    for low, high in pairwise(edges):
        chosen.add(low + int(torch.randint(high - low, (), generator=generator)))
    return [candidates[index] for index in sorted(chosen)]


def _listed(steps: list[int]) -> str:
    if not steps:
        return "no step at all"
    return (
        ", ".join(map(str, steps))
        if len(steps) < 9
        else f"{len(steps)} steps, {steps[0]} … {steps[-1]}"
    )


def _arrives(track: Track, segment: int, layer: int, direction: int) -> bool:
    """Whether gradient from outside the recurrence reaches a segment's returned states."""
    finals = track.segments[segment].finals
    row = layer * track.directions + direction
    if _passed_on(track, segment):
        return False  # counted where it came from
    return any(part is not None and bool((part[row] != 0).any()) for part in finals)


def _passed_on(track: Track, segment: int) -> bool:
    """Whether what arrives at a segment's last states came from the segment after it."""
    return segment < len(track.links) and track.links[segment] != Link.DETACHED


@dataclass
class _ProbeInjection:
    """Loss gradient of single steps, one probe a row."""

    track: Track
    probes: list[Probe]

    @property
    def rows(self) -> int:
        return len(self.probes)

    def places(self, segment: int, direction: int) -> list[Tensor | None]:
        """Return each probe's step in recurrence time, ``(B,)``; -1 where a row is shorter."""
        lengths = self.track.segments[segment].axis.lengths
        return [
            None if probe.segment != segment
            else torch.where(lengths > probe.back,
                             lengths - 1 - probe.back if direction == 0 else probe.back, -1)
            for probe in self.probes
        ]  # fmt: skip

    def output(self, segment: int, direction: int) -> Callable[[int, int], Tensor] | None:
        arrived = self.track.arriving_output(segment, direction)
        return None if arrived is None else self.picked(segment, direction, arrived)

    def cell(self, segment: int) -> Callable[[int, int], Tensor] | None:
        arrived = self.track.segments[segment].cell_output
        return None if arrived is None else self.picked(segment, 0, arrived)

    def picked(
        self, segment: int, direction: int, gradient: Tensor
    ) -> Callable[[int, int], Tensor]:
        """Let through, in each probe's row, what arrives at that probe's step."""
        places = self.places(segment, direction)
        batch = torch.arange(gradient.shape[1], device=gradient.device)

        def arriving(start: int, stop: int) -> Tensor:
            shape = (stop - start, self.rows, *gradient.shape[1:])
            result = torch.zeros(shape, dtype=torch.float64, device=gradient.device)
            for row, steps in enumerate(places):
                if steps is None:
                    continue
                inside = batch[(steps >= start) & (steps < stop)]
                result[steps[inside] - start, row, inside] = gradient[
                    steps[inside], inside
                ].double()
            return result

        return arriving

    def end(self, segment: int, layer: int, direction: int, flow: StateFlow) -> StateFlow:
        """Add the returned states' gradient to the probe of the step they belong to."""
        single = StateFlow.zeros(self.track.tapes(layer, direction)[segment])
        outside = final_gradients(self.track, segment, layer, direction, single)
        passed_on = _passed_on(self.track, segment)
        for row, probe in enumerate(self.probes):
            if probe.segment != segment or passed_on:
                continue
            lengths = self.track.segments[segment].axis.lengths
            belongs = (probe.back == 0) if direction == 0 else (lengths - 1 == probe.back)
            mask = torch.as_tensor(belongs, device=lengths.device).expand(len(lengths))[:, None]
            flow.hidden[row] += outside.hidden[0] * mask
            if flow.cell is not None and outside.cell is not None:
                flow.cell[row] += outside.cell[0] * mask
        return flow


@dataclass
class Ratios:
    """Sums over probes of the root-mean-square norms, at each lag and at lag 0."""

    at_lag: Tensor
    at_zero: Tensor

    @classmethod
    def empty(cls, steps: int) -> Ratios:
        """Return sums over no probe yet, for lags 0 … ``steps`` - 1."""
        return cls(torch.zeros(steps, dtype=torch.float64), torch.zeros(steps, dtype=torch.float64))

    def add(self, norms: Tensor, ends: Tensor) -> None:
        """Add one probe: ``norms`` ``(T, B)`` on the whole axis, ``ends`` its step per row."""
        steps = len(norms)
        lags = torch.arange(steps)[:, None]
        index = ends - lags  # (T, B): step of each lag
        exists = (index >= 0) & (ends >= 0)
        value = norms.gather(0, index.clamp(min=0))
        count = exists.sum(1)
        zero = norms.gather(0, ends.clamp(min=0)[None]).expand_as(value)
        for target, curve in ((self.at_lag, value), (self.at_zero, zero)):
            peak = torch.where(exists, curve, 0.0).amax(1, keepdim=True)
            scale = torch.where(peak > 0, peak, 1.0)
            mean = (torch.where(exists, curve / scale, 0.0).square().sum(1) / count).sqrt()
            target += torch.where(count > 0, mean * scale[:, 0], 0.0)

    def profile(self) -> Tensor:
        """Return the profile up to the longest lag any probe has."""
        seen = (self.at_zero != 0).nonzero()[:, 0]  # NaN counts as seen
        longest = int(seen[-1]) + 1 if len(seen) else 0
        return (self.at_lag / self.at_zero)[:longest]


def lag_profiles(
    track: Track,
    probes: list[Probe],
    dense: dict[tuple[int, int], list[Tensor]],
) -> tuple[dict[tuple[int, int], Tensor], dict[tuple[int, int], Tensor]]:
    """Return the lag profile and the own lag profile of each layer and direction.

    Args:
        probes: Loss steps to follow.
        dense: For each layer below the top, per segment, what the user's backward brings to
            its output in recurrence time, ``(T, B, H)``.

    Returns:
        Two mappings from ``(layer, direction)`` to ``(longest lag + 1,)`` curves: including
        the paths through the layers above, and through the layer's own recurrence alone.
    """
    places = [(layer, way) for layer in range(track.layers) for way in range(track.directions)]
    whole = {place: Ratios.empty(track.steps) for place in places}
    alone = {place: Ratios.empty(track.steps) for place in places if place in dense}
    for group in _groups(track, probes):
        injection = _ProbeInjection(track, group)
        collector = _Collector(track, group)
        sweep(track, injection, collector.sink)
        for place in places:
            collector.add_to(whole[place], *place)
        for place in alone:
            collector = _Collector(track, group)
            arriving = [injection.picked(j, place[1], g) for j, g in enumerate(dense[place])]
            sweep_layer(track, *place, arriving, injection, collector.sink)
            collector.add_to(alone[place], *place)
    profiles = {place: ratios.profile() for place, ratios in whole.items()}
    own = {place: ratios.profile() for place, ratios in alone.items()}
    return profiles, {**profiles, **own}


def _groups(track: Track, probes: list[Probe]) -> list[list[Probe]]:
    tape = track.tapes(0, 0)[0]
    row = track.steps * tape.axis.batch * tape.hidden_size * track.directions * 8
    size = max(1, min(len(probes), MEMORY // max(row, 1))) if probes else 1
    count = math.ceil(len(probes) / size)
    return [probes[index::count] for index in range(count)]


class _Collector:
    """Keeps the norm of the whole state, per probe, on the whole recurrence axis."""

    def __init__(self, track: Track, probes: list[Probe]) -> None:
        self.track, self.probes = track, probes
        self.norms: dict[tuple[int, int, int], Tensor] = {}  # (T, P, B)

    def sink(self, layer: int, direction: int, segment: int, chunk: Chunk) -> None:
        axis = self.track.segments[segment].axis
        key = (layer, direction, segment)
        if key not in self.norms:
            shape = (axis.steps, len(self.probes), axis.batch)
            self.norms[key] = torch.zeros(shape, dtype=torch.float64)
        norms = state_norm(chunk.hidden, chunk.cell)
        self.norms[key][chunk.start : chunk.stop] = norms.cpu()

    def add_to(self, ratios: Ratios, layer: int, direction: int) -> None:
        segments = range(len(self.track.segments))
        joined = self.track.joined(
            [self.norms[layer, direction, j].transpose(1, 2) for j in segments]
        )  # (T, B, P)
        for row, probe in enumerate(self.probes):
            lengths = self.track.segments[probe.segment].axis.lengths.cpu()
            before = sum((self.track.segments[j].axis.lengths.cpu() for j in range(probe.segment)),
                         torch.zeros_like(lengths))  # fmt: skip
            own = (
                lengths - 1 - probe.back if direction == 0 else torch.full_like(lengths, probe.back)
            )
            ends = torch.where(lengths > probe.back, before + own, -1)
            ratios.add(joined[..., row], ends)
