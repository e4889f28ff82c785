"""The tapes of a call of our own layers from what it left in the core: nothing is run again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from gradreach.kernels.native.kept_gates import KeptGates
from gradreach.kernels.native.remembering import Forward
from gradreach.kernels.tape import LayerWeights, Replay, Tape
from gradreach.kernels.torch_replay import states_from, time_major
from gradreach.nn.replay import cell_kind, four_of, plainly_torch, sixteen_bits

if TYPE_CHECKING:
    from gradreach.nn.base import RecurrentLayer

__all__ = ["remembered_replay"]


def remembered_replay(
    layer: RecurrentLayer, weights: list[Tensor], inputs: Any, output: Tensor,
    forwards: list[Forward],
) -> Replay | None:  # fmt: skip
    """Return the tapes of a call, or ``None`` where it has to be run once more.

    For stacks of torch's own cells in one direction, of sequences of one length, without dropout
    at work: there the states, the gates and the cell states of the user's pass are all there.
    """
    draws = layer.training and layer.dropout > 0 and layer.num_layers > 1
    if layer.bidirectional or draws or not isinstance(inputs, Tensor) or sixteen_bits(weights):
        return None
    if len(forwards) != layer.num_layers or not all(own.dense and own.told for own in forwards):
        return None
    if not plainly_torch(layer):
        return None
    _, axis, batched = time_major(layer, inputs)
    result = output if batched else output.unsqueeze(1)
    if layer.batch_first and batched:
        result = result.transpose(0, 1)
    rows, own, tapes = layer._rows(), iter(weights), []
    for depth, (names, forward) in enumerate(zip(rows, forwards, strict=True)):
        row = LayerWeights(*four_of([next(own) for _ in names]), tuple(names))
        last = depth + 1 == layer.num_layers
        hidden = result if last else forward.output.detach()
        first = forward.hidden.detach()
        states = states_from(first, hidden)
        tape = Tape(
            cell_kind(layer), axis, row, forward.inputs.detach(), previous=states[:-1],
            hidden=states[1:],
        )  # fmt: skip
        tape.told = forward.told[-1]
        if layer.kind != "rnn":
            tape.kept = _kept(layer, forward, hidden)
        if forward.cell_state is not None:
            tape.previous_cell = forward.cell_state.detach()[None]  # c_0, as a replay has it
        tapes.append([tape])
    return Replay(tapes, [None] * layer.num_layers, identical=True)


def _kept(layer: RecurrentLayer, forward: Forward, hidden: Tensor) -> KeptGates:
    steps, batch, size = hidden.shape
    cell = None if forward.cell_state is None else forward.cell_state.detach().contiguous()
    return KeptGates(layer.kind, forward.kept, steps, batch, size, hidden.dtype, cell)
