"""The reverse scan of our own layers: gradient that comes back over several paths at once.

A state h_t reaches the loss by its own step's output, through the recurrent matrix at step
t + d, and over every skip at step t + d·s. With δ the total gradient::

    δ_t = outside_t + Wᵀ δa_{t+d} + Σ_j carries[j] ⊙ δ_{t+d·skips[j]}
    δa_t = φ'(a_t) ⊙ scale ⊙ δ_t

Where h is a projection of the cell's output (LSTM with proj_size), δ_t goes through W_hrᵀ first.

What comes back to a step that is still to be visited waits for it; what comes back to the
steps before the first belongs to the state given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gradreach.kernels.equations import Coefficients, equations_for
from gradreach.kernels.extension import Extension
from gradreach.kernels.reverse_scan import (
    CHUNK,
    Arrivals,
    Chunk,
    StateFlow,
)
from gradreach.kernels.tape import Tape
from gradreach.kernels.unexplained import ROUNDING, Rounding, unexplained

__all__ = ["connected_scan"]


def connected_scan(tape: Tape, arrivals: Arrivals, sink: Callable[[Chunk], None]) -> StateFlow:
    """Run a tape with an extension backwards in float64; as `reverse_scan`.

    Cost:
        As :func:`.reverse_scan.plain_scan`; beside a chunk, as many steps of flow as the longest
        skip spans.
    """
    assert tape.extension is not None
    rows = arrivals.end.hidden.shape[0]
    waiting = _Waiting(tape, rows)
    way = _Way.of(tape.extension, tape)
    size = max(4, min(CHUNK, tape.axis.steps // 12))
    for start in reversed(range(0, tape.axis.steps, size)):
        stop = min(start + size, tape.axis.steps)
        sink(_chunk(tape, way, waiting, arrivals, start, stop))
    return waiting.given


@dataclass(frozen=True)
class _Way:
    """The numbers a step's gradient is multiplied with on its way back, float64."""

    extension: Extension
    weight: Tensor  # (G·H, H)
    scale: Tensor | None
    carries: Tensor | None
    projection: Tensor | None  # (P, H)

    @classmethod
    def of(cls, extension: Extension, tape: Tape) -> _Way:
        scale, carries = extension.numbers.scale, extension.numbers.carries
        projection = extension.projection
        return cls(
            extension,
            tape.matrix.detach().double(),
            None if scale is None else scale.detach().double(),
            None if carries is None else carries.detach().double(),
            None if projection is None else projection.detach().double(),
        )

    def into_cell(self, delta: Tensor) -> Tensor:
        """Return the share of δh that reaches what the cell computed, u_t."""
        if self.projection is not None:
            return delta @ self.projection
        return delta if self.scale is None else delta * self.scale


@dataclass
class _Waiting:
    """Flow from later steps to steps not yet visited, and to the state given."""

    tape: Tape
    rows: int
    flows: dict[int, StateFlow] = field(default_factory=dict)
    given: StateFlow = field(init=False)

    def __post_init__(self) -> None:
        self.given = StateFlow.zeros(self.tape, self.rows)

    def at(self, step: int) -> StateFlow:
        """Take what has come back to a step."""
        flow = self.flows.pop(step, None)
        return StateFlow.zeros(self.tape, self.rows) if flow is None else flow

    def add(self, step: int, every: int, hidden: Tensor, cell: Tensor | None = None) -> None:
        """Add flow to a step; the state given stands at ``-every`` … -1, nothing before it."""
        if step < -every:
            return
        if step < 0:
            target = self.given
        else:
            target = self.flows.setdefault(step, StateFlow.zeros(self.tape, self.rows))
        target.hidden += hidden
        if cell is not None and target.cell is not None:
            target.cell += cell

    def cut(self) -> None:
        """Forget all flow: the state that entered was not connected to what came before."""
        self.flows.clear()
        self.given = StateFlow.zeros(self.tape, self.rows)


def _chunk(
    tape: Tape, way: _Way, waiting: _Waiting, arrivals: Arrivals, start: int, stop: int
) -> Chunk:
    """Take steps ``start … stop-1`` backwards."""
    local, ends = equations_for(tape).coefficients(tape, start, stop), tape.axis.ends()
    hidden = _arriving(arrivals.output, tape, start, stop, waiting.rows)
    cell = None
    if waiting.given.cell is not None:
        cell = _arriving(arrivals.cell, tape, start, stop, waiting.rows, tape.units)
    source = hidden.new_empty((*hidden.shape[:-1], local.recurrent.shape[2], tape.units))
    outside = hidden.clone() if arrivals.total else None
    outside_cell = None if cell is None or not arrivals.total else cell.clone()
    rounding = ROUNDING[tape.rounded_to]
    for step in reversed(range(start, stop)):
        place, flow = step - start, waiting.at(step)
        if (ending := ends.get(step)) is not None:
            flow.add_ends(arrivals.end, ending)
        delta, delta_cell = hidden[place], None
        _meet(delta, flow.hidden, None if outside is None else outside[place], rounding)
        fresh = way.into_cell(delta)
        if cell is not None:
            assert flow.cell is not None
            assert local.cell_from_hidden is not None
            delta_cell = cell[place]
            flow.cell.addcmul_(fresh, local.cell_from_hidden[place])
            own = None if outside_cell is None else outside_cell[place]
            _meet(delta_cell, flow.cell, own, rounding)
        _send_back(way, local, step, place, (delta, fresh, delta_cell), source[place], waiting)
        if step in tape.cuts:
            waiting.cut()
    recurrent_side = source.flatten(-2)
    input_side = _input_side(way, local, hidden, recurrent_side)
    return Chunk(start, stop, hidden, cell, recurrent_side, input_side, outside, outside_cell)


def _arriving(
    arriving: Callable[[int, int], Tensor] | None,
    tape: Tape,
    start: int,
    stop: int,
    rows: int,
    width: int | None = None,
) -> Tensor:
    shape = (stop - start, rows, tape.axis.batch, width or tape.hidden_size)
    found = torch.zeros(shape, dtype=torch.float64, device=tape.hidden.device)
    return found if arriving is None else found.copy_(arriving(start, stop))


def _meet(delta: Tensor, flow: Tensor, outside: Tensor | None, rounding: Rounding) -> None:
    """Add the flow to what arrived; where that was a total, first find what of it is new."""
    if outside is not None:
        outside.copy_(unexplained(outside, flow, rounding))
        delta.copy_(outside)
    delta += flow


def _send_back(
    way: _Way,
    local: Coefficients,
    step: int,
    place: int,
    deltas: tuple[Tensor, Tensor, Tensor | None],
    source: Tensor,
    waiting: _Waiting,
) -> None:
    """Write δa of one step to ``source`` and send its flow to the earlier steps.

    Args:
        deltas: δh, its share at u (scaled), and δc.
    """
    delta, fresh, cell = deltas
    every, flow_cell = way.extension.dilation, None
    if cell is None:
        torch.mul(fresh[:, :, None], local.recurrent[place], out=source)
    else:
        assert local.carry is not None
        torch.mul(cell[:, :, None], local.recurrent[place, :, :3], out=source[:, :, :3])
        torch.mul(fresh, local.recurrent[place, :, 3], out=source[:, :, 3])
        flow_cell = cell * local.carry[place]
    flow = (source.flatten(-2).flatten(0, 1) @ way.weight).view(delta.shape)
    if cell is None and local.carry is not None:
        flow.addcmul_(fresh, local.carry[place])
    waiting.add(step - every, every, flow, flow_cell)
    if way.carries is not None:
        for carry, reach in zip(way.carries, way.extension.reaches, strict=True):
            waiting.add(step - reach, every, delta * carry)


def _input_side(way: _Way, local: Coefficients, hidden: Tensor, recurrent_side: Tensor) -> Tensor:
    if local.candidate is None:
        return recurrent_side
    fresh = hidden if way.scale is None else hidden * way.scale
    candidate = fresh * local.candidate[:, None]
    return torch.cat([recurrent_side[..., : -hidden.shape[-1]], candidate], dim=-1)
