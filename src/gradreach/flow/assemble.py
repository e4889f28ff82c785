"""From a track to the records of its layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradreach.flow.contributions import Contribution, contributions_of, kept_contributions
from gradreach.flow.extended_terms import learned_terms, mirrored_contribution, summed
from gradreach.flow.gates import gates_of
from gradreach.flow.kept_states import kept_states
from gradreach.flow.lag_profile import Probe, choose_probes, lag_profiles, loss_steps
from gradreach.flow.nonfinite import first_nonfinite
from gradreach.flow.norms import scaled_norm, state_norm
from gradreach.flow.padding import constant_tails
from gradreach.flow.saturation import saturated_and_dead
from gradreach.flow.scaled import Scaled
from gradreach.flow.sources.links import Link
from gradreach.flow.sweep import Arriving, LossInjection, sweep
from gradreach.flow.track import Track
from gradreach.kernels.native.scan import KeptRooms
from gradreach.kernels.native.terms import Block
from gradreach.kernels.reverse_scan import Chunk
from gradreach.records import LayerFlow, LayerTensors

__all__ = ["Swept", "layer_flows", "swept"]

Place = tuple[int, int]  # layer, direction


class PreActivations:
    """∂L/∂a_k of all steps, as W_ih and as W_hh see it."""

    def __init__(self, input_side: Scaled, recurrent_last: Scaled | None) -> None:
        self.input_side, self.recurrent_last = input_side, recurrent_last

    def of_input(self, start: int, stop: int) -> Tensor:
        """Return what W_ih and b_ih see, ``(K, B, G·H)`` float64."""
        return self.input_side.read(start, stop)

    def of_state(self, start: int, stop: int) -> Tensor:
        """Return what W_hh and b_hh see: in a GRU the candidate's block passes the reset gate."""
        delta = self.input_side.read(start, stop)
        if self.recurrent_last is None:
            return delta
        last = self.recurrent_last.read(start, stop)
        return torch.cat([delta[..., : -last.shape[-1]], last], -1)

    def input_blocks(self) -> list[Block]:
        """Return what W_ih sees as it is kept."""
        return [self.input_side.block()]

    def state_blocks(self) -> list[Block]:
        """Return what W_hh sees as it is kept, block of columns by block."""
        if self.recurrent_last is None:
            return self.input_blocks()
        last = self.recurrent_last.block()
        first = self.input_side.block()
        shared = first.values[..., : -last.values.shape[-1]]
        return [Block(shared, first.scales), last]


@dataclass
class Swept:
    """A track after the sweep of the user's own gradient.

    Shape:
        hidden, cell: per place, ``(T, B, H)`` on the whole recurrence axis. norms: ``(T, B)``
        of the whole state. dense: what arrives at the output of the layers below the top.
        terms: of parameters beside torch's, ``(T, *shape)`` by name.
    """

    track: Track
    hidden: dict[Place, Scaled]
    cell: dict[Place, Scaled]
    norms: dict[Place, Tensor]
    sides: dict[Place, PreActivations]
    dense: dict[Place, list[Tensor]]
    contributions: dict[Place, dict[str, Contribution]] = field(default_factory=dict)
    terms: dict[Place, dict[str, Tensor]] = field(default_factory=dict)

    def inputs(self, place: Place) -> Tensor:
        """Return the layer's input on the whole axis."""
        return self.track.joined([tape.inputs.detach() for tape in self.track.tapes(*place)])

    def previous(self, place: Place) -> Tensor:
        """Return the state that entered each step on the whole axis."""
        return self.track.joined([tape.previous for tape in self.track.tapes(*place)])


class _Collector:
    """Keeps what leaves the scan, per place and segment."""

    def __init__(self, track: Track) -> None:
        self.track = track
        self.parts: dict[tuple[str, Place, int], Scaled] = {}
        self.norms: dict[tuple[Place, int], Tensor] = {}
        self.outside: dict[str, Tensor] = {}
        self.dense: dict[Place, list[Tensor]] = {}

    def sink(self, layer: int, direction: int, segment: int, chunk: Chunk) -> None:
        place = (layer, direction)
        self._keep("hidden", place, segment, chunk, chunk.hidden)
        self._keep("input_side", place, segment, chunk, chunk.input_side)
        if chunk.cell is not None:
            self._keep("cell", place, segment, chunk, chunk.cell)
        norms = state_norm(chunk.hidden, chunk.cell)[:, 0]
        if chunk.recurrent_side is not chunk.input_side:
            last = chunk.recurrent_side[..., -chunk.hidden.shape[-1] :]
            self._keep("recurrent_last", place, segment, chunk, last)
        axis = self.track.segments[segment].axis
        rows = self.norms.setdefault((place, segment), norms.new_zeros(axis.steps, axis.batch))
        rows[chunk.start : chunk.stop] = norms
        for name, value in (("output", chunk.outside), ("cell_output", chunk.outside_cell)):
            if value is not None:
                shape = (axis.steps, *value.shape[2:])
                target = self.outside.setdefault(name, value.new_zeros(shape))
                target[chunk.start : chunk.stop] = value[:, 0]

    def rooms(self, layer: int, direction: int, segment: int) -> KeptRooms:
        """Return memory for everything that a scan of a segment finds."""
        tape, place = self.track.tapes(layer, direction)[segment], (layer, direction)
        axis, units = tape.axis, tape.hidden_size
        widths = {"hidden": units, "input_side": tape.weights.recurrent.shape[0]}
        widths |= {"cell": units} if tape.kind == "lstm" else {}
        widths |= {"recurrent_last": units} if tape.kind == "gru" else {}
        made: dict[str, tuple[Tensor, Tensor | None]] = {}
        for name, width in widths.items():
            room = Scaled.room(axis.steps, axis.batch, width, tape.hidden)
            self.parts[name, place, segment] = room
            made[name] = (room.values, room.scales)
        norms = torch.empty(axis.steps, axis.batch, dtype=torch.float64)
        self.norms[place, segment] = norms
        return KeptRooms(
            made["hidden"], made.get("cell"), made["input_side"], made.get("recurrent_last"), norms
        )

    def _keep(self, name: str, place: Place, segment: int, chunk: Chunk, value: Tensor) -> None:
        key = (name, place, segment)
        if key not in self.parts:
            tape = self.track.tapes(*place)[segment]
            axis = tape.axis
            room = Scaled.room(axis.steps, axis.batch, value.shape[-1], tape.hidden)
            self.parts[key] = room
        self.parts[key].write(chunk.start, chunk.stop, value[:, 0])

    def observe(self, layer: int, direction: int, arriving: Arriving) -> None:
        if layer < self.track.layers - 1:
            self.dense[layer, direction] = [
                part(0, segment.axis.steps)[:, 0]
                for part, segment in zip(arriving, self.track.segments, strict=True)
                if part is not None
            ]

    def joined(self, name: str, place: Place) -> Scaled | None:
        """Return one quantity of one place on the whole axis."""
        segments = range(len(self.track.segments))
        parts = [self.parts[name, place, j] for j in segments if (name, place, j) in self.parts]
        return parts[0].joined(parts[1:], self.track.joined) if parts else None


def swept(track: Track, gradients: Mapping[int, Tensor | None] | None = None) -> Swept:
    """Sweep the gradient of the user's backward pass and sum up the weights' contributions.

    Args:
        gradients: By ``id`` of a weight, the gradient this backward pass sent to it: what the
            contributions are expected to sum up to.
    """
    kept = _Collector(track)
    sweep(track, LossInjection(track), kept.sink, kept.observe, kept.rooms)
    if kept.outside:  # from here on the track holds what came from outside, as a fused one does
        segment = track.segments[0]
        segment.output, segment.cell_output = (
            kept.outside["output"],
            kept.outside.get("cell_output"),
        )
        segment.totals = False
    result = Swept(track, {}, {}, {}, {}, kept.dense)
    segments = range(len(track.segments))
    for place in sorted({place for place, _ in kept.norms}):
        hidden, side = kept.joined("hidden", place), kept.joined("input_side", place)
        assert hidden is not None
        assert side is not None
        result.hidden[place] = hidden
        result.sides[place] = PreActivations(side, kept.joined("recurrent_last", place))
        result.norms[place] = track.joined([kept.norms[place, j] for j in segments])
        if (cell := kept.joined("cell", place)) is not None:
            result.cell[place] = cell
        tape = track.tapes(*place)[0]
        sides, factors = result.sides[place], (result.inputs(place), result.previous(place))
        named = tape.parameters()
        expected = [(gradients or {}).get(id(named[name])) for name in tape.weights.names[:2]]
        found = kept_contributions(
            tape.weights, *factors, sides.input_blocks(), sides.state_blocks(), expected
        )
        if found is None:
            found = contributions_of(tape.weights, *factors, sides.of_input, sides.of_state)
        result.contributions[place] = found
        if tape.extension is not None:
            _extend(result, place)
    return result


def _extend(result: Swept, place: Place) -> None:
    """Add what a layer of our own has beside torch's cell to the contributions."""
    tape, found = result.track.tapes(*place)[0], result.contributions[place]
    assert tape.extension is not None
    if tape.extension.mirrored:
        sides, name = result.sides[place], tape.weights.names[1]
        found[name] = mirrored_contribution(sides.of_state, result.previous(place))
    result.terms[place] = learned_terms(
        result.track, place, result.hidden[place], result.cell.get(place)
    )
    found.update({name: summed(terms) for name, terms in result.terms[place].items()})


def layer_flows(
    result: Swept,
    module: str,
    checked: dict[str, dict[str, Any]],
    probes: int | Sequence[int],
    seed: int,
) -> dict[str, LayerFlow]:
    """Return the records of all layers of a track, the lowest layer first.

    Args:
        checked: The closure fields of the record, each a mapping from weight to value.
        probes: Most loss steps to follow for the lag profile, or the very steps.
    """
    track = result.track
    candidates = loss_steps(track)
    notes = list(track.notes)
    chosen: list[Probe] = []
    profiles: dict[Place, Tensor] = {}
    own: dict[Place, Tensor] = {}
    if track.connected:
        chosen = choose_probes(candidates, probes, seed)
        profiles, own = lag_profiles(track, chosen, result.dense)
    else:
        notes.append(
            "the state is changed between steps (masked, normalised), so that no lag profile can "
            "follow it; state gradients and contributions are exact"
        )
    tails = constant_tails(track)
    empty, flows = np.zeros(0), {}
    for place in sorted(result.hidden):
        name = track.layer_name(*place)
        given = {
            "lag_probes": tuple(probe.step for probe in chosen),
            "loss_steps": tuple(probe.step for probe in candidates),
            "notes": tuple(notes),
            "module": module,
            "constant_tails": tails.starts.cpu().numpy(),
            "tail_gradient_share": tails.gradient_share,
            "tail_one_value": tails.one_value,
            "tail_value_elsewhere": tails.elsewhere,
            "lag_profile": profiles[place].numpy() if place in profiles else empty,
            "own_lag_profile": own[place].numpy() if place in own else empty,
        }
        flows[name] = _layer_flow(result, place, name, checked, given)
    return flows


def _layer_flow(
    result: Swept,
    place: Place,
    name: str,
    checked: dict[str, dict[str, Any]],
    given: dict[str, Any],
) -> LayerFlow:
    track, tapes = result.track, result.track.tapes(*place)
    lengths = track.lengths()
    exists = torch.arange(track.steps, device=lengths.device)[:, None] < lengths  # (T, B)
    longest = int(lengths.max())
    per_sample = result.norms[place]
    contributions = result.contributions[place]
    closure: dict[str, Any] = {
        field: {weight: values[weight] for weight in contributions}
        for field, values in checked.items()
    }
    saturated, dead = saturated_and_dead(tapes)
    nan_beyond = torch.where(exists, per_sample, torch.nan)[:longest]
    return LayerFlow(
        name=name,
        kind=track.kind,
        source=track.source,
        dtype=str(tapes[0].rounded_to).removeprefix("torch."),
        reverse=place[1] == 1,
        hidden_size=tapes[0].hidden_size,
        lengths=lengths.cpu().numpy(),
        state_gradient_norms=_root_mean_square(per_sample, exists)[:longest],
        per_sample=_array(nan_beyond),
        contributions={key: _array(value.norms[:longest]) for key, value in contributions.items()},
        shares={key: _array(value.shares[:longest]) for key, value in contributions.items()},
        saturation=_array(saturated),
        dead=dead.cpu().numpy(),
        gates=gates_of(track, place),
        detached_steps=track.steps_after(Link.DETACHED),
        transformed_steps=track.steps_after(Link.TRANSFORMED),
        nonfinite=first_nonfinite(result, place),
        tensors=_tensors(result, place, exists, longest),
        states=kept_states(track, place),
        **closure,
        **given,
    )


def _array(values: Tensor) -> NDArray[np.float64]:
    return values.detach().double().cpu().numpy()


def _root_mean_square(norms: Tensor, exists: Tensor) -> NDArray[np.float64]:
    """Return the root mean square over the rows that exist; a NaN of theirs stays NaN."""
    total = scaled_norm(torch.where(exists, norms, 0.0))
    return _array(total / exists.sum(1).double().sqrt())


def _tensors(result: Swept, place: Place, exists: Tensor, longest: int) -> LayerTensors:
    def told(values: Tensor) -> NDArray[Any]:
        if not bool(exists.all()):
            values = torch.where(exists[..., None], values, torch.nan)
        return values[:longest].cpu().numpy()

    last = result.sides[place].recurrent_last
    tape = result.track.tapes(*place)[0]
    mirrored = tape.extension is not None and tape.extension.mirrored
    return LayerTensors(
        hidden=result.hidden[place].record(longest, exists),
        cell=result.cell[place].record(longest, exists) if place in result.cell else None,
        input_side=result.sides[place].input_side.record(longest, exists),
        recurrent_last=None if last is None else last.record(longest, exists),
        inputs=told(result.inputs(place)),
        previous=told(result.previous(place)),
        terms={name: _array(value) for name, value in result.terms.get(place, {}).items()},
        mirrored=tape.weights.names[1] if mirrored else "",
    )
