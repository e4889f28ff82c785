"""Runs a recorded call of our own layers once more and says what it was made of.

The same kernels in the same mode on the same numbers: the output has the bits of the user's
pass, and so have the states of the layers below, which no call returns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.rnn import PackedSequence

from gradreach.kernels.extension import Extension, Learned
from gradreach.kernels.half import HALF, in_single
from gradreach.kernels.recurrence import CellWeights, Recurrence
from gradreach.kernels.tape import LayerWeights, Replay, Tape
from gradreach.kernels.time_axis import TimeAxis
from gradreach.kernels.torch_replay import (
    as_given,
    as_padded,
    dropout_mask,
    initial_state,
    replay_torch,
    same_bits,
    time_major,
)
from gradreach.nn.precision import converted, precision_of

if TYPE_CHECKING:
    from gradreach.nn.base import RecurrentLayer
    from gradreach.nn.remedies import Remedied

__all__ = ["cell_kind", "cell_parts", "four_of", "names_of", "plainly_torch", "replay_own",
           "sixteen_bits", "why_not"]  # fmt: skip

TORCH_ACTIVATIONS = {"rnn": ("tanh", "relu"), "gru": ("tanh",), "lstm": ("tanh",)}


def why_not(module: Remedied) -> str | None:
    """Say why calls of a layer or cell of ours cannot be replayed, or ``None``."""
    cell = module._cell
    if is_parametrized(module):
        return "reading a parametrized layer's weights would run the parametrization again"
    if cell.clip is not None:
        return (
            "clip_backpropagated_error changes the gradient on its way, so that it is no longer "
            "the derivative of the loss: leave it out to measure"
        )
    if cell.recurrent_dropout and module.training:
        return (
            "recurrent_dropout draws its masks inside the recurrence: call model.eval() to measure"
        )
    if cell.zoneout != (0.0, 0.0):
        return "zoneout mixes h_(t-1) into h_t behind the cell's equations: not measured yet"
    if cell.layer_norm:
        return "layer_norm stands inside the cell: its gradient is not measured yet"
    return None


def names_of(module: Remedied) -> list[list[str]]:
    """Return the names of all parameters, one row per layer and direction, torch's first."""
    extra = list(module._starts())
    return [[*row, *(name + _suffix(row) for name in extra)] for row in module._rows()]


def cell_parts(
    module: Remedied, weights: list[Tensor]
) -> tuple[str, LayerWeights, Extension | None]:
    """Return what a tape of a cell needs; as :meth:`.ReplayableCell.tape_parts`."""
    names, own = module._rows()[0], dict(zip(names_of(module)[0], weights, strict=True))
    tensors = [own[name] for name in names]
    numbers = module._numbers(names, tensors, None, own.__getitem__)
    extension = _extension(module, names, numbers, own, 1)
    return _kind(module._cell), LayerWeights(*four_of(tensors), tuple(names)), extension


def cell_kind(layer: RecurrentLayer) -> str:
    """Return the kind of the tapes of a layer."""
    return _kind(layer._cell)


def plainly_torch(layer: RecurrentLayer) -> bool:
    """Whether a layer adds nothing to torch's own cell."""
    activation = layer._resting.activation
    known = activation.custom is None and activation.name in TORCH_ACTIVATIONS[layer.kind]
    return bool(layer._bare and known and layer._plain and not layer.proj_size)


def sixteen_bits(weights: list[Tensor]) -> bool:
    """Whether some weight is of a 16-bit type, which is widened before it is used."""
    return any(weight.dtype in HALF for weight in weights)


def _kind(cell: Recurrence) -> str:
    """Return the kind of the tapes of a cell: of a simple one the name of its activation."""
    if cell.kind != "rnn":
        return cell.kind
    name = cell.activation.name
    # A user's function may be called anything, also what already has a meaning.
    taken = name in ("gru", "lstm") or not name.isidentifier()
    return "function" if taken else name


def _extension(
    module: Remedied, names: list[str], numbers: CellWeights, own: dict[str, Tensor], dilation: int
) -> Extension | None:
    """Return what one layer and direction adds to torch's cell; ``None`` for nothing.

    Args:
        names: torch's names of the row. own: All parameters of the row by name.
        numbers: What the kernel was given.
    """
    cell = module._resting
    activation, suffix = cell.activation, _suffix(names)
    plain = activation.custom is None and activation.name in TORCH_ACTIVATIONS[cell.kind]
    if module._bare and plain and dilation == 1:
        return None
    learned = tuple(
        Learned(name + suffix, own[name + suffix], *_chain(module, name, own[name + suffix]))
        for name in module._starts()
    )
    detached = CellWeights(*(None if part is None else part.detach() for part in numbers))  # type: ignore[arg-type]
    return Extension(cell, detached, dilation, learned, module._connections.alters_weight)


def _chain(
    module: Remedied, name: str, parameter: Tensor
) -> tuple[str, Callable[[Tensor], Tensor]]:
    """Return which number a parameter makes, and the chain rule from that number to it."""
    if name == "activation_bias":
        return "activation_bias", lambda gradient: gradient
    if name == "skip_weight":
        first = 0 if module._connections.residual is None else 1
        return "carries", lambda gradient: gradient[..., first:, :]
    value = parameter.detach().double().sigmoid()
    slope = value * (1.0 - value)
    if name == "alpha":
        return "scale", lambda gradient: gradient.sum(-1) * slope
    return "carries", lambda gradient: gradient[..., 0, :].sum(-1) * slope


def replay_own(
    layer: RecurrentLayer,
    weights: list[Tensor],
    inputs: Any,
    state: Any,
    output: Tensor,
    rng_state: Tensor | None,
) -> Replay:
    """Replay one call; arguments and result as :meth:`.Replayable.replay`.

    No global random stream is touched: dropout masks come from a private generator, and what a
    user's activation may draw is put back.
    """
    data = inputs.data if isinstance(inputs, PackedSequence) else inputs
    if layer.proj_size or (layer._plain and not data.is_cpu):  # computed by torch's own layer
        replay = replay_torch(layer, weights, inputs, state, output, rng_state)
        device = data.device.type
        in_single(replay, torch.get_autocast_dtype(device)
                  if torch.is_autocast_enabled(device) else None)  # fmt: skip
        return replay
    with torch.random.fork_rng(devices=[], enabled=layer._cell.activation.custom is not None):
        return _replay(layer, weights, inputs, state, output, rng_state)


def _replay(
    layer: RecurrentLayer, weights: list[Tensor], inputs: Any, state: Any, output: Tensor,
    rng_state: Tensor | None,
) -> Replay:  # fmt: skip
    packed = inputs if isinstance(inputs, PackedSequence) else None
    sequence, axis, batched = time_major(layer, inputs)
    states = initial_state(layer, state, sequence, axis.batch, batched)
    precision = precision_of(layer.kind, weights[0], states[0])
    compute = None
    if precision is not None:
        compute = precision.compute
        sequence = converted(sequence, compute)
        states = tuple(converted(part, compute) for part in states)
    generator = None if rng_state is None else torch.Generator().set_state(rng_state)
    rows = names_of(layer)
    own = dict(zip((name for row in rows for name in row), weights, strict=True))
    ways = 2 if layer.bidirectional else 1
    tapes: list[list[Tape]] = []
    masks: list[Tensor | None] = []
    result = sequence
    for depth in range(layer.num_layers):
        outputs, directions = [], []
        for way in range(ways):
            place = depth * ways + way
            part = {name: own[name] for name in rows[place]}
            entering = [each[place] for each in states]
            numbers = _numbers(layer, place, part, compute)
            found = _run(layer, depth, sequence, packed, entering, numbers, reverse=way == 1)
            outputs.append(found)
            extension = _extension(
                layer, layer._rows()[place], numbers, part, layer._dilations[depth]
            )
            names = tuple(layer._rows()[place])
            four = [part[name] for name in names]
            row = LayerWeights(*four_of([_wide(weight) for weight in four]), names)
            tape = _tape(layer, axis, packed, (sequence, found), entering, row, extension, way == 1)
            if four[0].dtype in HALF:  # computed in float32, but known by the 16-bit weights
                tape.given, tape.precision = part, four[0].dtype
            directions.append(tape)
        result = outputs[0] if ways == 1 else torch.cat(outputs, -1)
        tapes.append(directions)
        mask = None
        if depth + 1 < layer.num_layers:
            mask = dropout_mask(layer, result, generator)
            sequence = result if mask is None else result * mask
        masks.append(None if mask is None else as_padded(mask, packed))
    if precision is not None:
        result = result.to(precision.result)
    return Replay(tapes, masks, same_bits(as_given(layer, result, packed, batched), output))


def _wide(weight: Tensor) -> Tensor:
    return weight.detach().float() if weight.dtype in HALF else weight


def _numbers(
    layer: RecurrentLayer, place: int, own: dict[str, Tensor], compute: torch.dtype | None
) -> CellWeights:
    names = layer._rows()[place]
    return layer._numbers(names, [own[name] for name in names], compute, own.__getitem__)


def _run(
    layer: RecurrentLayer,
    depth: int,
    sequence: Tensor,
    packed: PackedSequence | None,
    entering: list[Tensor],
    numbers: CellWeights,
    *,
    reverse: bool,
) -> Tensor:
    """Run one layer in one direction in grad mode, as the user's pass was."""
    sizes = None if packed is None else packed.batch_sizes
    if packed is not None and packed.sorted_indices is not None:
        entering = [part.index_select(0, packed.sorted_indices) for part in entering]
    with torch.enable_grad(), torch.autocast(sequence.device.type, enabled=False):
        found = layer._one(depth, sequence, entering, (numbers, None), sizes, reverse)[0]
    return found.detach().requires_grad_(found.requires_grad)


def _tape(
    layer: RecurrentLayer,
    axis: TimeAxis,
    packed: PackedSequence | None,
    values: tuple[Tensor, Tensor],
    entering: list[Tensor],
    weights: LayerWeights,
    extension: Extension | None,
    reverse: bool,
) -> Tape:
    """Lay one layer's input and output out in recurrence time."""
    inputs, hidden = (axis.turned(as_padded(part, packed), reverse=reverse) for part in values)
    every = 1 if extension is None else extension.dilation
    first = entering[0].detach().expand(every, *entering[0].shape)
    states = torch.cat([first, hidden])  # one buffer for both views
    steps = axis.steps
    tape = Tape(
        _kind(layer._cell), axis, weights, inputs.detach(), previous=states[:steps],
        hidden=states[every:], extension=extension,
    )  # fmt: skip
    if layer.kind == "lstm":
        tape.previous_cell = entering[1].detach()[None]  # c_0; the rest is recomputed
    return tape


def four_of(tensors: list[Tensor]) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Return weights and biases of a layer, ``None`` for biases it has not got."""
    if len(tensors) == 2:
        return tensors[0], tensors[1], None, None
    return tensors[0], tensors[1], tensors[2], tensors[3]


def _suffix(names: list[str]) -> str:
    return names[0].removeprefix("weight_ih")
