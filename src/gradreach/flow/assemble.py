"""From a track to the records of its layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradreach.flow.contributions import Contribution, contributions_of
from gradreach.flow.gates import gates_of
from gradreach.flow.kept_states import kept_states
from gradreach.flow.lag_profile import Probe, choose_probes, lag_profiles, loss_steps
from gradreach.flow.nonfinite import first_nonfinite
from gradreach.flow.norms import scaled_norm
from gradreach.flow.padding import constant_tails
from gradreach.flow.saturation import dead_units, saturation_of
from gradreach.flow.sources.links import Link
from gradreach.flow.sweep import Arriving, LossInjection, sweep
from gradreach.flow.track import Track
from gradreach.kernels.reverse_scan import Chunk
from gradreach.records import LayerFlow, LayerTensors

__all__ = ["Swept", "layer_flows", "swept"]

Place = tuple[int, int]  # layer, direction


@dataclass
class Swept:
    """A track after the sweep of the user's own gradient.

    Shape:
        hidden, cell: per place, ``(T, B, H)`` float64 on the whole recurrence axis; the sides
        ``(T, B, G·H)``. dense: what arrives at the output of the layers below the top.
    """

    track: Track
    hidden: dict[Place, Tensor]
    cell: dict[Place, Tensor]
    input_side: dict[Place, Tensor]
    recurrent_side: dict[Place, Tensor]
    dense: dict[Place, list[Tensor]]
    contributions: dict[Place, dict[str, Contribution]] = field(default_factory=dict)

    def inputs(self, place: Place) -> Tensor:
        """Return the layer's input on the whole axis."""
        return self.track.joined([tape.inputs.detach() for tape in self.track.tapes(*place)])

    def previous(self, place: Place) -> Tensor:
        """Return the state that entered each step on the whole axis."""
        return self.track.joined([tape.previous for tape in self.track.tapes(*place)])


def swept(track: Track) -> Swept:
    """Sweep the gradient of the user's backward pass and sum up the weights' contributions."""
    buffers: dict[str, dict[Place, list[Tensor]]] = {
        name: {} for name in ("hidden", "cell", "input_side", "recurrent_side")
    }
    outside: dict[str, Tensor] = {}
    dense: dict[Place, list[Tensor]] = {}

    def sink(layer: int, direction: int, segment: int, chunk: Chunk) -> None:
        axis = track.segments[segment].axis
        values = {"hidden": chunk.hidden, "cell": chunk.cell, "input_side": chunk.input_side}
        if chunk.recurrent_side is not chunk.input_side:
            values["recurrent_side"] = chunk.recurrent_side
        for name, value in values.items():
            if value is not None:
                parts = buffers[name].setdefault((layer, direction), [])
                _fill(parts, len(track.segments), segment, axis.steps, chunk, value)
        for name, value in (("output", chunk.outside), ("cell_output", chunk.outside_cell)):
            if value is not None:
                target = outside.setdefault(name, value.new_zeros(axis.steps, *value.shape[2:]))
                target[chunk.start : chunk.stop] = value[:, 0]

    def observe(layer: int, direction: int, arriving: Arriving) -> None:
        if layer < track.layers - 1:
            dense[layer, direction] = [
                part(0, segment.axis.steps)[:, 0]
                for part, segment in zip(arriving, track.segments, strict=True)
                if part is not None
            ]

    sweep(track, LossInjection(track), sink, observe)
    if outside:  # from here on the track holds what came from outside, as a fused one does
        segment = track.segments[0]
        segment.output, segment.cell_output = outside["output"], outside.get("cell_output")
        segment.totals = False
    joined = {
        name: {place: track.joined(parts) for place, parts in by_place.items()}
        for name, by_place in buffers.items()
    }
    recurrent = joined["recurrent_side"] or joined["input_side"]
    result = Swept(track, joined["hidden"], joined["cell"], joined["input_side"], recurrent, dense)
    for place in result.hidden:
        result.contributions[place] = contributions_of(
            track.tapes(*place)[0].weights, result.inputs(place), result.previous(place),
            result.input_side[place], result.recurrent_side[place],
        )  # fmt: skip
    return result


def _fill(
    parts: list[Tensor], count: int, segment: int, steps: int, chunk: Chunk, value: Tensor
) -> None:
    """Copy a chunk into its segment's buffer; segments are visited from the last one on."""
    if not parts:
        parts.extend(value.new_empty(0) for _ in range(count))
    if not parts[segment].numel():
        parts[segment] = value.new_zeros(steps, *value.shape[2:])
    parts[segment][chunk.start : chunk.stop] = value[:, 0]


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
    tails, inside = constant_tails(track)
    empty, flows = np.zeros(0), {}
    for place in sorted(result.hidden):
        name = track.layer_name(*place)
        given = {
            "lag_probes": tuple(probe.step for probe in chosen),
            "loss_steps": tuple(probe.step for probe in candidates),
            "notes": tuple(notes),
            "module": module,
            "constant_tails": tails.cpu().numpy(),
            "tail_gradient_share": inside,
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
    hidden = result.hidden[place]
    per_sample = scaled_norm(hidden)
    if place in result.cell:
        both = torch.stack([per_sample, scaled_norm(result.cell[place])], -1)
        per_sample = scaled_norm(both)
    contributions = result.contributions[place]
    closure: dict[str, Any] = {
        field: {weight: values[weight] for weight in contributions}
        for field, values in checked.items()
    }
    nan_beyond = torch.where(exists, per_sample, torch.nan)[:longest]
    return LayerFlow(
        name=name,
        kind=track.kind,
        source=track.source,
        dtype=str(tapes[0].hidden.dtype).removeprefix("torch."),
        reverse=place[1] == 1,
        hidden_size=tapes[0].hidden_size,
        lengths=lengths.cpu().numpy(),
        state_gradient_norms=_root_mean_square(per_sample, exists)[:longest],
        per_sample=_array(nan_beyond),
        contributions={key: _array(value.norms[:longest]) for key, value in contributions.items()},
        shares={key: _array(value.shares[:longest]) for key, value in contributions.items()},
        saturation=_array(saturation_of(tapes)),
        dead=dead_units(tapes).cpu().numpy(),
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
    def told(values: Tensor) -> NDArray[np.float64]:
        if not bool(exists.all()):
            values = torch.where(exists[..., None], values, torch.nan)
        return values[:longest].cpu().numpy()

    side = told(result.input_side[place])
    other = result.recurrent_side[place]
    return LayerTensors(
        hidden=told(result.hidden[place]),
        cell=told(result.cell[place]) if place in result.cell else None,
        input_side=side,
        recurrent_side=side if other is result.input_side[place] else told(other),
        inputs=told(result.inputs(place)),
        previous=told(result.previous(place)),
    )
