"""Finds where a gradient that is not finite came from: parameter, layer, timestep, batch row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from gradreach.errors import NotMeasurableError
from gradreach.flow.assemble import Swept, swept
from gradreach.flow.sources.calls import FusedCall, RecordedCall
from gradreach.flow.sources.cells import cells_track
from gradreach.flow.sources.fused import fused_track
from gradreach.flow.sources.links import Chain, chains_of
from gradreach.records.parts import NonFinite

__all__ = ["Found", "NonFinitePlace", "all_finite", "bad_parameters", "found_in", "place_of"]

Place = tuple[int, int]  # layer, direction
Found = tuple[str, nn.Module, NonFinite]  # of which layer, of which module


@dataclass(frozen=True, kw_only=True)
class NonFinitePlace:
    """Where the first NaN or infinity of an optimizer step was met.

    Args:
        parameter: The weight that is not finite, else a parameter of the layer (or the first of
            all) whose gradient is not.
        parameters: All whose gradient is not.
        where: ``"weight …"``, ``"input"``, ``"state"`` or ``"gradient"`` of ``layer``;
            ``"parameter"`` where every recurrent layer is finite, or there is none.
        layer: As in ``flow.layers``; ``""`` for none.
        step: In the order of the recurrence. row: of the batch. Both ``-1`` where there is none.

    Example:
        >>> print(NonFinitePlace(parameter="rnn.weight_ih_l0", parameters=("rnn.weight_ih_l0",),
        ...                      where="input", layer="rnn.l0", step=7, row=3))
        first NaN or infinity in the input of step 7, batch row 3, of layer rnn.l0; it reached the
        gradient of rnn.weight_ih_l0
    """

    parameter: str
    parameters: tuple[str, ...]
    where: str
    layer: str = ""
    step: int = -1
    row: int = -1

    def __str__(self) -> str:
        if self.where.startswith("weight"):
            return f"NaN or infinity in the weight {self.parameter} itself"
        more = len(self.parameters) - 1
        reached = f"the gradient of {self.parameter}" + (f" and {more} more" if more else "")
        if not self.layer:
            return f"NaN or infinity in {reached} only"
        first = NonFinite(self.where, self.step, self.row)
        return f"{first}, of layer {self.layer}; it reached {reached}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {**asdict(self), "parameters": list(self.parameters)}


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether every entry of some tensors is finite.

    Example:
        >>> all_finite([torch.ones(2), torch.full((3,), 3e38)])  # whose sum is not
        True
        >>> all_finite([torch.ones(2), torch.tensor([0.0, torch.nan])])
        False
    """
    parts = [_values(tensor) for tensor in tensors]
    parts = [part for part in parts if part.numel()]
    if not parts:
        return True
    # A sum is finite only if its terms are, and costs one pass; that of huge terms may overflow.
    sums = [part.sum() for part in parts]
    told = torch.stack([each.isfinite().to(sums[0].device) for each in sums])
    if bool(told.all()):
        return True
    return all(bool(part.isfinite().all()) for part in parts)


def bad_parameters(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Return those whose gradient has an entry that is not finite."""
    return [p for p in parameters if p.grad is not None and not all_finite([p.grad])]


def place_of(
    bad: Sequence[Tensor], model: nn.Module, optimizer: Optimizer, found: Sequence[Found]
) -> NonFinitePlace:
    """Return where the first value that is not finite was met.

    A weight that is not finite is the cause of all else. Otherwise values spread upwards in the
    forward pass, so that the lowest input or state began; and gradients downwards, so that the
    uppermost layer did.

    Args:
        bad: The parameters whose gradient is not finite.
        found: As :func:`found_in` returns it, of the passes since the step before.
    """
    names = _names(model, optimizer)
    told = tuple(names[id(p)] for p in bad)
    for name, weight in model.named_parameters():
        if not all_finite([weight.detach()]):
            return NonFinitePlace(parameter=name, parameters=told, where=f"weight {name}")
    if not found:
        return NonFinitePlace(parameter=told[0], parameters=told, where="parameter")
    layer, module, first = _origin(found)
    own = {id(p) for p in module.parameters()}
    parameter = next((names[id(p)] for p in bad if id(p) in own), told[0])
    return NonFinitePlace(
        parameter=parameter,
        parameters=told,
        where=first.where,
        layer=layer,
        step=first.step,
        row=first.row,
    )


def _origin(found: Sequence[Found]) -> Found:
    forward = [each for each in found if each[2].where != "gradient"]
    return forward[0] if forward else found[-1]


def found_in(calls: Sequence[RecordedCall]) -> list[Found]:
    """Return the first value that is not finite of each layer that has one, from below.

    Args:
        calls: Of any modules; each can be looked at once.

    Cost:
        A replay of the recurrent layers and a sweep backwards, about two passes.
    """
    by_module: dict[str, list[RecordedCall]] = {}
    for call in calls:
        if call.reached or not call.in_backward:
            by_module.setdefault(call.name, []).append(call)
    found: list[Found] = []
    for name, own in by_module.items():
        chains = [chain for chain in chains_of(own) if any(call.reached for call in chain.calls)]
        for number, chain in enumerate(chains):
            axis = name if number == 0 else f"{name}#{number + 1}"
            try:
                firsts = list(_in_chain(chain, axis))
            except NotMeasurableError:
                continue  # its parameters are named all the same
            found += [(layer, own[0].module, first) for layer, first in firsts]
    return found


def _in_chain(chain: Chain, axis: str) -> Iterator[tuple[str, NonFinite]]:
    """Yield the layers of one time axis that have a value that is not finite."""
    if isinstance(chain.calls[0], FusedCall):
        track = fused_track(chain, axis)
        result = swept(track)
        largest = torch.finfo(chain.calls[0].output.dtype).max
        gradients = {place: _overflown(result, place, largest) for place in sorted(result.hidden)}
    else:
        # What arrived at the states of a cell is the whole gradient, as the user's pass had it.
        track = cells_track(chain, axis)
        result = Swept(track, {}, {}, {}, {}, {})
        segment = track.segments[0]
        totals = [part for part in (segment.output, segment.cell_output) if part is not None]
        bad = [~part.isfinite().all(-1) for part in totals]
        gradients = {(0, 0): torch.stack(bad).any(0)}
    for place, gradient in gradients.items():
        first = _first(result, place, gradient)
        if first is not None:
            yield track.layer_name(*place), first


def _overflown(result: Swept, place: Place, largest: float) -> Tensor:
    """Return where the state gradient is not finite in the user's dtype, ``(T, B)`` bool.

    The sweep is in float64, which ends at 1e308: what overflowed before that in the user's
    backward pass is finite in it.

    Args:
        largest: The largest number of that dtype.
    """
    parts = [result.hidden[place], *([result.cell[place]] if place in result.cell else [])]
    peaks = [part.read(0, result.track.steps).abs().amax(-1) for part in parts]
    return ~(torch.stack(peaks) <= largest).all(0)


def _first(result: Swept, place: Place, gradient: Tensor) -> NonFinite | None:
    """Return a layer's first value that is not finite: the forward pass's before a gradient.

    Args:
        gradient: Where the state gradient is not.
    """
    track, tapes = result.track, result.track.tapes(*place)
    valid = track.joined([tape.axis.valid for tape in tapes])
    # The state that entered a step beside the one that left it: tanh makes 1 of infinity.
    states = (track.joined([tape.hidden for tape in tapes]), result.previous(place))
    forward = {"input": [result.inputs(place)], "state": states}
    firsts = []
    for where, values in forward.items():
        bad = torch.stack([~each.isfinite().all(-1) for each in values]).any(0) & valid
        if bool(bad.any()):
            step, row = bad.nonzero()[0].tolist()
            firsts.append(NonFinite(where, step, row))
    if firsts:
        return min(firsts, key=lambda first: first.step)
    bad = gradient & valid
    if not bool(bad.any()):
        return None
    step = int(bad.any(1).nonzero()[-1])  # the last step is where a backward pass begins
    return NonFinite("gradient", step, int(bad[step].nonzero()[0]))


def _names(model: nn.Module, optimizer: Optimizer) -> dict[int, str]:
    """Return how the user calls each parameter; one of another model by its place."""
    names = {
        id(p): f"parameter {place} of group {number}"
        for number, group in enumerate(optimizer.param_groups)
        for place, p in enumerate(group["params"])
    }
    return names | {id(p): name for name, p in model.named_parameters()}


def _values(tensor: Tensor) -> Tensor:
    """Return the entries that this process holds; of a sparse tensor, those that are kept."""
    part = getattr(tensor.detach(), "to_local", None)
    own: Tensor = tensor.detach() if part is None else part()
    return own._values() if own.is_sparse else own
