"""The reverse scan of torch's own layers in the compiled core."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradreach.kernels.native.kept_gates import KeptGates
from gradreach.kernels.native.series import Place, address, core_for, place
from gradreach.kernels.tape import Tape
from gradreach.kernels.unexplained import Rounding

__all__ = ["KeptRooms", "NativeScan", "Rooms", "room"]

KINDS = {"tanh": 0, "relu": 0, "gru": 1, "lstm": 2}  # csrc/table.h
GATES = {"tanh": "", "relu": "", "gru": "rznq", "lstm": "ifgo"}
SIDES = {"tanh": 1, "relu": 1, "gru": 3, "lstm": 4}

Rooms = dict[str, Tensor]  # memory that is used again, by name


class KeptRooms(NamedTuple):
    """Where a scan keeps what it finds: values and, where they are float32, scales of rows.

    Shape:
        hidden, cell: ``(T, B, H)``. side: ``(T, B, G·H)``, as W_ih sees it. last: ``(T, B, H)``
        of a GRU, the candidate's columns as W_hh sees them. Scales and norms ``(T, B)`` float64.
    """

    hidden: tuple[Tensor, Tensor | None]
    cell: tuple[Tensor, Tensor | None] | None
    side: tuple[Tensor, Tensor | None]
    last: tuple[Tensor, Tensor | None] | None
    norms: Tensor


def room(rooms: Rooms | None, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Return uninitialised float64 memory, from ``rooms`` if what lies there is large enough.

    Fresh pages cost more than what is written to them.

    Example:
        >>> rooms: Rooms = {}
        >>> first = room(rooms, "a", (4, 2), torch.zeros(1))
        >>> room(rooms, "a", (3, 2), torch.zeros(1)).data_ptr() == first.data_ptr()
        True
    """
    found = None if rooms is None else rooms.get(name)
    if found is None or found.shape[1:] != shape[1:] or len(found) < shape[0]:
        found = torch.empty(shape, dtype=torch.float64, device=like.device)
        if rooms is not None:
            rooms[name] = found
    return found[: shape[0]]


@dataclass
class NativeScan:
    """A tape bound to the core, its weights widened once; runs it stretch by stretch.

    Args:
        places: Where the activations lie that a step's local derivatives are made of.
        held: What must outlive the call: everything the core has the address of.
    """

    tape: Tape
    call: Any
    places: list[tuple[Place, int]]
    cuts: Tensor | None
    held: tuple[Any, ...]

    @classmethod
    def of(cls, tape: Tape, rows: int, rounding: Rounding) -> NativeScan | None:
        """Bind a tape, or return ``None`` where the core does not take it.

        Args:
            rows: P, how many gradients share the scan.
            rounding: What counts as explained.
        """
        if tape.kind not in KINDS or tape.extension is not None:
            return None
        series = [tape.hidden.detach()] if tape.kept is not None else _series(tape)
        weight = tape.weights.recurrent.detach()
        core = core_for(weight, *series)
        if core is None or not tape.hidden.numel() or not tape.axis.lengths.is_cpu:
            return None
        if any(part.dtype != tape.hidden.dtype for part in (weight, *series)):
            return None
        weight, lengths = weight.contiguous(), tape.axis.lengths.contiguous()
        cuts = None
        if tape.cuts:
            cuts = torch.zeros(tape.axis.steps, dtype=torch.uint8)
            cuts[[step for step in tape.cuts if step < tape.axis.steps]] = 1
        call = core.TapeScan(
            tape.hidden.dtype is torch.float64, KINDS[tape.kind], tape.kind == "relu", rows,
            tape.axis.batch, tape.hidden_size, torch.get_num_threads(), weight.data_ptr(),
            lengths.data_ptr(), rounding,
        )  # fmt: skip
        places = [place(part) for part in series]
        if tape.kept is not None:
            places = _kept_places(tape, tape.kept)
            call.spread(tape.kept.lanes, tape.kept.spread, address(tape.kept.first_cell))
        size = tape.hidden.element_size()
        held = (series, weight, lengths, tape.kept, tape.previous)
        return cls(tape, call, [(where, size) for where in places], cuts, held)

    def bind(self, hidden: Tensor, cell: Tensor | None, end: tuple[Tensor | None, ...]) -> None:
        """Say where the flow is kept and what arrives at the last states, all ``(P, B, H)``."""
        ends = [None if part is None else part.double().contiguous() for part in end]
        self.held = (*self.held, hidden, cell, ends)
        self.call.flow(address(hidden), address(cell), *map(address, ends))

    def run(
        self, start: int, hidden: Tensor, cell: Tensor | None, *,
        outside: Tensor | None, outside_cell: Tensor | None, rooms: Rooms | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Run steps ``start …``, the last one first; return both sides' pre-activation gradient.

        Shape:
            hidden, cell, outside, outside_cell: ``(K, P, B, H)``, in what arrives, out the
            states' gradients and what of it came from outside. returns: ``(K, P, B, G·H)``.
        """
        steps, sides = len(hidden), SIDES[self.tape.kind] * self.tape.hidden_size
        shape = (*hidden.shape[:-1], sides)
        recurrent_side = room(rooms, "recurrent", shape, hidden)
        gru = self.tape.kind == "gru"
        input_side = room(rooms, "input", shape, hidden) if gru else recurrent_side
        self.call.run(
            start, steps,
            [((at + start * step * size), step, row) for (at, step, row), size in self.places],
            0 if self.cuts is None else self.cuts.data_ptr() + start,
            *map(address, (hidden, cell, outside, outside_cell, recurrent_side)),
            input_side.data_ptr() if gru else 0,
        )  # fmt: skip
        return recurrent_side, input_side

    def keep(self, arriving: Tensor | None, rooms: KeptRooms) -> bool:
        """Run all steps and keep what is found; false, nothing done, where that is not possible.

        Args:
            arriving: What arrives at the outputs, ``(T, B, H)`` of the tape's dtype or float64.
        """
        if arriving is not None:
            fits = arriving.dtype in (torch.float64, self.tape.hidden.dtype)
            if not fits or core_for(arriving) is None:
                return False
        self.call.keep(
            self.tape.axis.steps, [at for at, _ in self.places],
            0 if self.cuts is None else self.cuts.data_ptr(),
            (0, 0, 0) if arriving is None else place(arriving),
            arriving is not None and arriving.dtype is torch.float64,
            [(0, 0) if kept is None else (kept[0].data_ptr(), address(kept[1]))
             for kept in rooms[:4]],
            rooms.norms.data_ptr(),
        )  # fmt: skip
        return True


def _kept_places(tape: Tape, kept: KeptGates) -> list[Place]:
    """Return :func:`_series` where the user's own pass has left it."""
    gates = [kept.gate(name) for name in GATES[tape.kind]]
    return [*gates, *(kept.cells() if tape.kind == "lstm" else (place(tape.previous),))]


def _series(tape: Tape) -> list[Tensor]:
    """Return what the core reads of a tape, in the order of csrc/scan_calls.h."""
    if tape.kind in ("tanh", "relu"):
        return [tape.hidden.detach()]
    gates = [tape.activations[name] for name in GATES[tape.kind]]
    if tape.kind == "gru":
        return [*gates, tape.previous.detach()]
    assert tape.cell is not None
    assert tape.previous_cell is not None
    return [*gates, tape.cell, tape.previous_cell]
