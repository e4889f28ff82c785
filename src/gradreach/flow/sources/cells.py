"""Tracks of loops over ``nn.RNNCell``, ``nn.GRUCell`` and ``nn.LSTMCell``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from gradreach.errors import NotMeasurableError
from gradreach.flow.sources.calls import CellCall
from gradreach.flow.sources.fused import notes_of
from gradreach.flow.sources.links import Chain, Link
from gradreach.flow.track import Segment, Track
from gradreach.kernels.equations import equations_for
from gradreach.kernels.extension import Extension
from gradreach.kernels.half import HALF, widen_tape
from gradreach.kernels.tape import LayerWeights, Replay, ReplayableCell, Tape
from gradreach.kernels.time_axis import TimeAxis

__all__ = ["cell_kind", "cells_track"]

DTYPES = (torch.float32, torch.float64, *HALF)
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def cell_kind(module: nn.Module) -> str:
    """Return the kind of tape a cell writes."""
    if isinstance(module, nn.RNNCell):
        return str(module.nonlinearity)
    return "gru" if isinstance(module, nn.GRUCell) else "lstm"


def cells_track(chain: Chain, name: str) -> Track:
    """Lay the calls of a cell out as one tape.

    The states are those of the user's own pass. What arrived at them in the backward pass is
    total gradient; the reverse scan splits it into flow between steps and gradient from
    outside. A state changed between two calls (masked, normalised) is taken as it arrived.

    Raises:
        NotMeasurableError: The states are neither float32 nor float64.
    """
    calls = cast("list[CellCall]", chain.calls)
    if calls[0].values[0].dtype not in DTYPES:
        found = str(calls[0].values[0].dtype).removeprefix("torch.")
        raise NotMeasurableError(f"its states are {found}; not floating point")
    half = calls[0].values[0].dtype in HALF or calls[0].autocast is not None
    if half and isinstance(calls[0].module, ReplayableCell):
        raise NotMeasurableError(
            "a cell of gradreach.nn in 16 bits is not measured: leave autocast around its loop, or "
            "use the layer, which is"
        )
    tape = _tape(calls, chain.links)
    widen_tape(tape, calls[0].autocast)
    equations_for(tape).recompute(tape)
    totals = [_totals(calls, part).to(tape.hidden.dtype) for part in range(len(calls[0].values))]
    segment = Segment(
        replay=Replay([[tape]], [None], identical=True),
        axis=tape.axis,
        output=totals[0],
        cell_output=totals[1] if len(totals) > 1 else None,
        finals=(None, None),
        totals=True,
    )
    return Track(
        name=name,
        kind=tape.kind,
        source="cells",
        segments=[segment],
        links=[],
        layers=1,
        directions=1,
        cell_links=tuple(chain.links),
        notes=notes_of([tape]),
    )


def _tape(calls: list[CellCall], links: Sequence[str]) -> Tape:
    kind, row, extension = _parts(calls[0])
    hidden = _stacked([call.values[0] for call in calls])
    tape = Tape(
        kind=kind,
        axis=TimeAxis.full(len(calls), hidden.shape[1], hidden.device),
        weights=row,
        inputs=_stacked([call.inputs.detach() for call in calls]),
        previous=_entering(calls, 0),
        hidden=hidden,
        cuts=frozenset(step for step, link in enumerate(links, start=1) if link != Link.SAME),
        extension=extension,
    )
    if tape.kind == "lstm":
        tape.previous_cell = _entering(calls, 1)
        tape.cell = _stacked([call.values[1] for call in calls])
    return tape


def _parts(call: CellCall) -> tuple[str, LayerWeights, Extension | None]:
    """Return the kind of a cell's tape, its weights, and what it adds to torch's cell."""
    if isinstance(call.module, ReplayableCell):
        return call.module.tape_parts([cast("Tensor", weight) for weight in call.weights])
    names = [name for name, weight in zip(NAMES, call.weights, strict=True) if weight is not None]
    weights = LayerWeights(
        cast("Tensor", call.weights[0]), cast("Tensor", call.weights[1]),
        call.weights[2], call.weights[3], tuple(names),
    )  # fmt: skip
    return cell_kind(call.module), weights, None


def _stacked(values: list[Tensor]) -> Tensor:
    """Stack steps to ``(T, B, …)``; unbatched calls get a batch of one."""
    stacked = torch.stack(values)
    return stacked.unsqueeze(1) if stacked.dim() == 2 else stacked


def _entering(calls: list[CellCall], part: int) -> Tensor:
    """Return the state that entered each step; torch starts from zeros where none was given."""
    return _stacked(
        [
            call.entering[part].detach() if call.entering else torch.zeros_like(call.values[part])
            for call in calls
        ]
    )


def _totals(calls: list[CellCall], part: int) -> Tensor:
    arrived = (call.state_arrivals[part].gradient for call in calls)
    return _stacked(
        [
            torch.zeros_like(call.values[part]) if gradient is None else gradient
            for call, gradient in zip(calls, arrived, strict=True)
        ]
    )
