"""The float64 reverse scan: total state gradients of one tape, from what arrives outside.

A reverse pass in float32 loses the tail: of a contracting RNN at T = 300 it returns
exactly 0 at 126 steps. In float64 the same pass keeps every step down to 1e-308.

The compiled core runs it where it can; the plain torch of `plain_scan` is the same in readable
form, the fallback, and what the core is tested against.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gradreach.kernels.equations import Coefficients, equations_of
from gradreach.kernels.native.scan import KeptRooms, NativeScan, Rooms, room
from gradreach.kernels.tape import Tape
from gradreach.kernels.unexplained import ROUNDING, unexplained

__all__ = [
    "Arrivals",
    "Chunk",
    "StateFlow",
    "keeping_scan",
    "plain_scan",
    "reverse_scan",
]

CHUNK = 32  # steps whose local derivatives are in memory at once
# Bytes of pre-activation gradient in a stretch of the core: a call costs some tens of
# microseconds, and what a core's own cache holds costs least.
STRETCH = 2**20


@dataclass
class StateFlow:
    """Gradient that flows between steps: with respect to h, and to c where there is one.

    Shape:
        hidden, cell: ``(P, B, H)`` float64; P independent gradients share one scan.
    """

    hidden: Tensor
    cell: Tensor | None

    @classmethod
    def zeros(cls, tape: Tape, rows: int = 1) -> StateFlow:
        """Return no flow at all."""
        shape = (rows, *tape.hidden.shape[1:])
        hidden = torch.zeros(shape, dtype=torch.float64, device=tape.hidden.device)
        if tape.kind != "lstm":
            return cls(hidden, None)
        return cls(hidden, hidden.new_zeros((*shape[:-1], tape.units)))

    def add_ends(self, end: StateFlow, rows: Tensor) -> None:
        """Add what arrives at the last states of the sequences that end here."""
        self.hidden[:, rows] += end.hidden[:, rows]
        if self.cell is not None and end.cell is not None:
            self.cell[:, rows] += end.cell[:, rows]


@dataclass(frozen=True)
class Arrivals:
    """Gradient that arrives at a tape from outside its own recurrence.

    Shape:
        output: function of ``(start, stop)`` giving ``(K, P, B, H)`` at the outputs h_k, or
            ``None``; cell: the same at c_k. end: what arrives at each sequence's last state.

    Args:
        total: ``output`` and ``cell`` are the *total* gradients a backward pass left at the
            states of a cell loop; what comes from outside is what the flow does not explain.
    """

    output: Callable[[int, int], Tensor] | None
    end: StateFlow
    cell: Callable[[int, int], Tensor] | None = None
    total: bool = False


@dataclass(frozen=True)
class Chunk:
    """Gradients of steps ``start … stop-1`` as they leave the scan, newest chunk first.

    Shape:
        hidden, cell: ``(K, P, B, H)``; recurrent_side, input_side: ``(K, P, B, G·H)``,
        the pre-activation gradients that W_hh and W_ih see (they differ for GRU only).
        outside, outside_cell: the share that came from outside, where arrivals were totals.
    """

    start: int
    stop: int
    hidden: Tensor
    cell: Tensor | None
    recurrent_side: Tensor
    input_side: Tensor
    outside: Tensor | None = None
    outside_cell: Tensor | None = None


def reverse_scan(
    tape: Tape, arrivals: Arrivals, sink: Callable[[Chunk], None], *, passing: bool = False
) -> StateFlow:
    """Run one tape backwards in float64.

    Args:
        tape: The recorded layer, with its activations recomputed.
        arrivals: Gradient from outside.
        sink: Called with each chunk of steps, the last chunk first.
        passing: The sink keeps no tensor of a chunk: the next one may lie in the same memory.

    Returns:
        The flow into the initial state.

    Cost:
        One float64 product ``(P·B, G·H) × (G·H, H)`` a step; memory is ``CHUNK`` steps.
    """
    if tape.extension is not None:
        # Here, not above: it is made of what this module defines.
        from gradreach.kernels.connected_scan import connected_scan

        return connected_scan(tape, arrivals, sink)
    rounding = ROUNDING[tape.rounded_to]
    native = NativeScan.of(tape, arrivals.end.hidden.shape[0], rounding)
    if native is None or tape.hidden.device != arrivals.end.hidden.device:
        return plain_scan(tape, arrivals, sink)
    return _native_scan(native, tape, arrivals, sink, passing)


def keeping_scan(
    tape: Tape, arriving: Tensor | None, end: StateFlow, rooms: Callable[[], KeptRooms]
) -> StateFlow | None:
    """Run one tape backwards as :func:`reverse_scan`, where the core keeps all it finds itself.

    Args:
        arriving: What arrives at the outputs, ``(T, B, H)``; nothing arrives at the cells.
        end: What arrives at each sequence's last state, one gradient.
        rooms: Gives the memory, asked for only where the core takes the call.

    Returns:
        The flow into the initial state; ``None``, nothing done, where it does not.

    Cost:
        As :func:`reverse_scan`, without the float64 copies of what is kept.
    """
    native = NativeScan.of(tape, 1, ROUNDING[tape.rounded_to])
    if native is None or not all(part.is_cpu for part in (tape.hidden, end.hidden)):
        return None
    flow = StateFlow.zeros(tape)
    native.bind(flow.hidden, flow.cell, (end.hidden, end.cell))
    return flow if native.keep(arriving, rooms()) else None


def _native_scan(
    native: NativeScan, tape: Tape, arrivals: Arrivals, sink: Callable[[Chunk], None], passing: bool
) -> StateFlow:
    """Run :func:`plain_scan` in the compiled core, one stretch of steps a call."""
    rows = arrivals.end.hidden.shape[0]
    flow = StateFlow.zeros(tape, rows)
    native.bind(flow.hidden, flow.cell, (arrivals.end.hidden, arrivals.end.cell))
    step = rows * tape.axis.batch * tape.weights.recurrent.shape[0] * 8
    size = min(max(4, STRETCH // max(step, 1)), 4 * CHUNK, tape.axis.steps)
    rooms: Rooms = {}
    for start in reversed(range(0, tape.axis.steps, size)):
        stop = min(start + size, tape.axis.steps)
        rooms = rooms if passing else {}
        hidden = _laid_out(arrivals.output, tape, start, stop, rows, rooms, "hidden")
        cell = None
        if flow.cell is not None:
            cell = _laid_out(arrivals.cell, tape, start, stop, rows, rooms, "cell")
        outside = torch.empty_like(hidden) if arrivals.total else None
        outside_cell = torch.empty_like(cell) if arrivals.total and cell is not None else None
        recurrent_side, input_side = native.run(
            start, hidden, cell, outside=outside, outside_cell=outside_cell, rooms=rooms
        )
        sink(Chunk(start, stop, hidden, cell, recurrent_side, input_side, outside, outside_cell))
    return flow


def plain_scan(tape: Tape, arrivals: Arrivals, sink: Callable[[Chunk], None]) -> StateFlow:
    """Run one tape backwards in plain torch operations; as :func:`reverse_scan`."""
    weight = tape.weights.recurrent.detach().double()
    rows = arrivals.end.hidden.shape[0]
    flow, ends = StateFlow.zeros(tape, rows), tape.axis.ends()
    size = max(4, min(CHUNK, tape.axis.steps // 12))  # a small part of a short sequence too
    for start in reversed(range(0, tape.axis.steps, size)):
        stop = min(start + size, tape.axis.steps)
        local = equations_of(tape.kind).coefficients(tape, start, stop)
        hidden = _laid_out(arrivals.output, tape, start, stop, rows)
        cell = None
        if flow.cell is not None:
            cell = _laid_out(arrivals.cell, tape, start, stop, rows)
        gates = local.recurrent.shape[2]
        source = hidden.new_empty((*hidden.shape[:-1], gates, tape.hidden_size))
        outside = hidden.clone() if arrivals.total else None
        outside_cell = cell.clone() if arrivals.total and cell is not None else None
        rounding = ROUNDING[tape.rounded_to]
        for step in reversed(range(stop - start)):
            if (ending := ends.get(start + step)) is not None:
                flow.add_ends(arrivals.end, ending)
            delta, delta_cell = hidden[step], None
            if outside is not None:
                delta.copy_(unexplained(outside[step], flow.hidden, rounding))
                outside[step] = delta
            delta.add_(flow.hidden)
            if cell is not None:
                assert flow.cell is not None
                assert local.cell_from_hidden is not None
                delta_cell = cell[step]
                flow.cell.addcmul_(delta, local.cell_from_hidden[step])
                if outside_cell is not None:
                    delta_cell.copy_(unexplained(outside_cell[step], flow.cell, rounding))
                    outside_cell[step] = delta_cell
                delta_cell.add_(flow.cell)
            _step_back(flow, local, step, delta, delta_cell, source[step], weight)
            if start + step in tape.cuts:
                flow = StateFlow.zeros(tape, rows)
        recurrent_side = source.flatten(-2)
        input_side = _input_side(local, hidden, recurrent_side)
        sink(Chunk(start, stop, hidden, cell, recurrent_side, input_side, outside, outside_cell))
    return flow


def _laid_out(
    arriving: Callable[[int, int], Tensor] | None, tape: Tape, start: int, stop: int, rows: int,
    rooms: Rooms | None = None, name: str = "",
) -> Tensor:  # fmt: skip
    """Return a fresh float64 buffer of the chunk, filled with what arrives from outside."""
    shape = (stop - start, rows, *tape.hidden.shape[1:])
    buffer = room(rooms, name, shape, tape.hidden)
    return buffer.zero_() if arriving is None else buffer.copy_(arriving(start, stop))


def _step_back(
    flow: StateFlow,
    local: Coefficients,
    step: int,
    delta: Tensor,
    delta_cell: Tensor | None,
    source: Tensor,
    weight: Tensor,
) -> None:
    """Turn δ of one step into δa (written to ``source``) and the flow to the step before."""
    if delta_cell is None:
        torch.mul(delta[:, :, None], local.recurrent[step], out=source)
    else:
        torch.mul(delta_cell[:, :, None], local.recurrent[step, :, :3], out=source[:, :, :3])
        torch.mul(delta, local.recurrent[step, :, 3], out=source[:, :, 3])
    flat = source.flatten(-2)
    flow.hidden = (flat.flatten(0, 1) @ weight).view(delta.shape)
    if delta_cell is not None:
        assert local.carry is not None
        flow.cell = delta_cell * local.carry[step]
    elif local.carry is not None:
        flow.hidden.addcmul_(delta, local.carry[step])


def _input_side(local: Coefficients, hidden: Tensor, recurrent_side: Tensor) -> Tensor:
    if local.candidate is None:
        return recurrent_side
    size = hidden.shape[-1]
    candidate = hidden * local.candidate[:, None]
    return torch.cat([recurrent_side[..., : 2 * size], candidate], dim=-1)
