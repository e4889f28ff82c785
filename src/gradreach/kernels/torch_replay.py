"""Runs a recorded call of torch's fused layers once more, layer by layer.

``nn.RNN/GRU/LSTM`` return the states of their last layer only. Running torch's own
kernel one layer at a time gives those of every layer *with the bits of the user's pass*,
which a forward of our own would not: on a chaotic run an own float32 forward misses the
gradient by a factor of a hundred (docs/decisions/0004-replay.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import _VF, Tensor
from torch.nn.utils.rnn import PackedSequence

from gradreach.kernels.extension import Extension, Learned
from gradreach.kernels.native.pages import fresh
from gradreach.kernels.recurrence import CellWeights, Recurrence
from gradreach.kernels.tape import LayerWeights, Replay, Tape
from gradreach.kernels.time_axis import TimeAxis

__all__ = [
    "as_given",
    "as_padded",
    "dropout_mask",
    "initial_state",
    "layer_weights",
    "replay_torch",
    "same_bits",
    "states_from",
    "time_major",
]

KINDS = {"RNN_TANH": "tanh", "RNN_RELU": "relu", "GRU": "gru", "LSTM": "lstm"}
BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
KERNELS: dict[str, Callable[..., Any]] = {
    "tanh": _VF.rnn_tanh,
    "relu": _VF.rnn_relu,
    "gru": _VF.gru,
    "lstm": _VF.lstm,
}


def layer_weights(
    module: torch.nn.RNNBase, flat: list[Tensor], layer: int, direction: int
) -> LayerWeights:
    """Pick one layer's weights from the flat list of a module.

    The flat list is what torch's kernel is given: right also under weight norm and weight
    drop, where reading the attribute would run the parametrisation once more.
    """
    names = module._all_weights
    directions = 2 if module.bidirectional else 1
    place = layer * directions + direction
    first = sum(len(row) for row in names[:place])
    count = 4 if module.bias else 2
    tensors = flat[first : first + count]
    biases = tensors[2:4] if module.bias else [None, None]
    row = tuple(names[place][:count])
    return LayerWeights(tensors[0], tensors[1], biases[0], biases[1], row)


def _projection(
    module: torch.nn.RNNBase, flat: list[Tensor], layer: int, direction: int
) -> tuple[str, Tensor] | None:
    """Return name and value of W_hr, where an LSTM has ``proj_size``."""
    if not module.proj_size:
        return None
    place = layer * (2 if module.bidirectional else 1) + direction
    last = sum(len(row) for row in module._all_weights[: place + 1]) - 1
    return module._all_weights[place][-1], flat[last]


def _projected(weights: LayerWeights, name: str, projection: Tensor) -> Extension:
    """Return what a projection adds to torch's LSTM."""
    learned = Learned(name, projection, "projection", lambda gradient: gradient)
    parts = (weights.input, weights.recurrent, weights.input_bias, weights.recurrent_bias)
    numbers = CellWeights(*(None if part is None else part.detach() for part in parts))  # type: ignore[arg-type]
    return Extension(
        Recurrence("lstm"), numbers, learned=(learned,), projection=projection.detach()
    )


def initial_state(
    module: torch.nn.RNNBase, state: Any, like: Tensor, batch: int, batched: bool
) -> tuple[Tensor, ...]:
    """Return ``(h_0,)`` or ``(h_0, c_0)``, each ``(L·D, B, H)``: given, or torch's zeros."""
    if state is None:
        rows = module.num_layers * (2 if module.bidirectional else 1)
        zeros = torch.zeros(rows, batch, module.hidden_size, dtype=like.dtype, device=like.device)
        if module.mode != "LSTM":
            return (zeros,)
        narrow = zeros if not module.proj_size else zeros[..., : module.proj_size].contiguous()
        return (narrow, zeros)
    parts = state if isinstance(state, tuple | list) else (state,)
    return tuple(part.detach() if batched else part.detach().unsqueeze(1) for part in parts)


def same_bits(first: Tensor, second: Tensor) -> bool:
    """Compare bit patterns, so that NaN equals NaN and -0 differs from 0."""
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    as_int = BITS[first.element_size()]
    return torch.equal(first.contiguous().view(as_int), second.contiguous().view(as_int))


def replay_torch(
    module: torch.nn.RNNBase,
    flat: list[Tensor],
    inputs: Any,
    state: Any,
    output: Tensor,
    rng_state: Tensor | None,
) -> Replay:
    """Replay one call of ``nn.RNN``, ``nn.GRU`` or ``nn.LSTM``.

    Args:
        module: The layer; only its configuration is read.
        flat: Its flat weights at the time of the call.
        inputs: Input of the call as given.
        state: Initial state as given, or ``None``.
        output: The user's output (its data where packed), to compare bits with.
        rng_state: State of the global CPU stream before the call; the dropout masks are drawn
            from a private generator in that state, the global stream is never touched.

    Returns:
        Tapes without activations; ``identical`` says whether the bits agreed.
    """
    kind = KINDS[module.mode]
    packed = inputs if isinstance(inputs, PackedSequence) else None
    sequence, axis, batched = time_major(module, inputs)
    states = initial_state(module, state, sequence, axis.batch, batched)
    directions = 2 if module.bidirectional else 1
    generator = None
    if rng_state is not None:
        generator = torch.Generator().set_state(rng_state)
    tapes: list[list[Tape]] = []
    masks: list[Tensor | None] = []
    for layer in range(module.num_layers):
        rows = slice(layer * directions, (layer + 1) * directions)
        weights = [layer_weights(module, flat, layer, way) for way in range(directions)]
        entering = tuple(part[rows] for part in states)
        narrow = [_projection(module, flat, layer, way) for way in range(directions)]
        result = _run_layer(module, kind, sequence, packed, entering, weights, narrow)
        made = _tapes_of(kind, axis, packed, sequence, result, entering, weights)
        for tape, own in zip(made, narrow, strict=True):
            tape.extension = None if own is None else _projected(tape.weights, *own)
        tapes.append(made)
        mask = None
        if layer + 1 < module.num_layers:
            mask = dropout_mask(module, result, generator)
            sequence = result if mask is None else result * mask
        masks.append(mask if mask is None else as_padded(mask, packed))
    return Replay(tapes, masks, same_bits(as_given(module, result, packed, batched), output))


def time_major(module: torch.nn.RNNBase, inputs: Any) -> tuple[Tensor, TimeAxis, bool]:
    """Return the input as torch's kernel sees it, its axis, and whether it had a batch."""
    if isinstance(inputs, PackedSequence):
        lengths = torch.zeros(int(inputs.batch_sizes[0]), dtype=torch.int64)
        for alive in inputs.batch_sizes.tolist():
            lengths[:alive] += 1
        if inputs.unsorted_indices is not None:
            lengths = lengths[inputs.unsorted_indices.cpu()]
        axis = TimeAxis(len(inputs.batch_sizes), lengths.to(inputs.data.device))
        return inputs.data.detach().requires_grad_(inputs.data.requires_grad), axis, True
    batched = inputs.dim() == 3
    value = inputs.detach().requires_grad_(inputs.requires_grad)
    if not batched:
        value = value.unsqueeze(1)
    elif module.batch_first:
        value = value.transpose(0, 1)
    return value, TimeAxis.full(value.shape[0], value.shape[1], value.device), batched


def _run_layer(
    module: torch.nn.RNNBase,
    kind: str,
    sequence: Tensor,
    packed: PackedSequence | None,
    entering: tuple[Tensor, ...],
    weights: list[LayerWeights],
    narrow: list[tuple[str, Tensor] | None],
) -> Tensor:
    """Run one layer by torch's kernel in grad mode: oneDNN takes another path without it."""
    flat = []
    for row, own in zip(weights, narrow, strict=True):
        flat += [tensor for _, tensor in row.named()]
        flat += [] if own is None else [own[1]]
    if packed is not None and packed.sorted_indices is not None:
        entering = tuple(part.index_select(1, packed.sorted_indices) for part in entering)
    hx: Any = entering if kind == "lstm" else entering[0]
    flags = (module.bias, 1, 0.0, module.training, module.bidirectional)
    with torch.enable_grad():
        if packed is not None:
            result = KERNELS[kind](sequence, packed.batch_sizes, hx, flat, *flags)
        else:
            result = KERNELS[kind](sequence, hx, flat, *flags, False)
    output: Tensor = result[0]
    return output.detach().requires_grad_(output.requires_grad)


def dropout_mask(
    module: torch.nn.RNNBase, output: Tensor, generator: torch.Generator | None
) -> Tensor | None:
    """Draw the mask torch drew between two layers."""
    keep = 1.0 - module.dropout
    if not (module.training and module.dropout > 0) or not output.numel():
        return None
    if keep == 0:
        return torch.zeros_like(output)  # torch draws nothing for p = 1
    return torch.empty_like(output).bernoulli_(keep, generator=generator).div_(keep).detach()


def as_padded(data: Tensor, packed: PackedSequence | None) -> Tensor:
    """Return the data as ``(T, B, …)`` in the user's batch order, zeros beyond the ends."""
    return data.detach() if packed is None else TimeAxis.padded(data.detach(), packed)


def as_given(
    module: torch.nn.RNNBase, output: Tensor, packed: PackedSequence | None, batched: bool
) -> Tensor:
    """Return the time-major output in the layout of the user's call."""
    if packed is not None:
        return output
    if not batched:
        return output.squeeze(1)
    return output.transpose(0, 1) if module.batch_first else output


def states_from(first: Tensor, hidden: Tensor) -> Tensor:
    """Return h_0 … h_T in one buffer, of which both the states and those before are views.

    Shape:
        first: ``(B, H)``. hidden: ``(T, B, H)``. returns: ``(T + 1, B, H)``.
    """
    return torch.cat([first[None], hidden], out=fresh((len(hidden) + 1, *first.shape), first))


def _tapes_of(
    kind: str,
    axis: TimeAxis,
    packed: PackedSequence | None,
    sequence: Tensor,
    output: Tensor,
    entering: tuple[Tensor, ...],
    weights: list[LayerWeights],
) -> list[Tape]:
    inputs, outputs = as_padded(sequence, packed), as_padded(output, packed)
    size = weights[0].recurrent.shape[1]
    tapes = []
    for direction, row in enumerate(weights):
        reverse = direction == 1
        hidden = axis.turned(outputs[..., direction * size : (direction + 1) * size],
                             reverse=reverse)  # fmt: skip
        first = entering[0][direction].detach()
        states = states_from(first, hidden)
        turned = axis.turned(inputs, reverse=reverse)
        tape = Tape(kind, axis, row, turned, previous=states[:-1], hidden=states[1:])
        if kind == "lstm":
            tape.previous_cell = entering[1][direction].detach()[None]  # row 0; the rest follows
        tapes.append(tape)
    return tapes
