"""Tracks of ``nn.RNN``, ``nn.GRU`` and ``nn.LSTM``: their states replayed, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from gradreach.errors import NotMeasurableError
from gradreach.flow.sources.calls import FusedCall
from gradreach.flow.sources.links import Chain
from gradreach.flow.track import Segment, Track
from gradreach.kernels.equations import equations_for
from gradreach.kernels.half import HALF, in_single
from gradreach.kernels.tape import Remembering, Replay, Replayable, Tape
from gradreach.kernels.torch_replay import replay_torch

__all__ = ["fused_track", "notes_of", "why_blind"]

DTYPES = (torch.float32, torch.float64, *HALF)


def why_blind(module: nn.RNNBase) -> str | None:
    """Say why a layer cannot be replayed, or ``None`` where it can."""
    if isinstance(module, Replayable) and (reason := module.why_not_replayable()) is not None:
        return reason
    dtypes = {weight.dtype for weight in module._flat_weights if weight is not None}
    if not dtypes <= set(DTYPES):
        found = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
        return f"its weights are {found}; float types of 16, 32 and 64 bits are measured"
    return None


def fused_track(chain: Chain, name: str) -> Track:
    """Replay the calls of a chain.

    Raises:
        NotMeasurableError: A replayed output differs from the user's, so that its states are
            not the user's either.
    """
    calls = cast("list[FusedCall]", chain.calls)
    module = cast("nn.RNNBase", calls[0].module)
    segments = [_segment(call, position, len(calls)) for position, call in enumerate(calls)]
    tapes = [tape for row in segments[0].replay.tapes for tape in row]
    return Track(
        name=name,
        kind=tapes[0].kind,
        source="fused",
        segments=segments,
        links=list(chain.links),
        layers=module.num_layers,
        directions=2 if module.bidirectional else 1,
        notes=notes_of(tapes),
    )


def notes_of(tapes: Sequence[Tape]) -> tuple[str, ...]:
    """Return what the extensions of some tapes have to say, each thing once."""
    notes = [
        note
        for tape in tapes
        if tape.extension is not None
        for note in tape.extension.notes(tape.weights.names[1])
    ]
    return tuple(dict.fromkeys(notes))


def _segment(call: FusedCall, position: int, count: int) -> Segment:
    module = cast("nn.RNNBase", call.module)
    replay = _remembered(call, module) if count == 1 else None
    if replay is None:
        replay = _replay(call, module)
    if not replay.identical:
        which = f" (call {position + 1} of {count})" if count > 1 else ""
        raise NotMeasurableError(
            "running it once more on the recorded input gave other bits than the model's own "
            f"pass{which}: its forward does something besides torch's recurrence, or its input "
            "or weights were changed in place after the call"
        )
    call.output = call.output.new_empty(0)  # the replay holds the same numbers
    for row in replay.tapes:
        for tape in row:
            if tape.kept is None:
                equations_for(tape).recompute(tape)
    tape = replay.tapes[0][0]
    output = _widened(_padded_gradient(call, module), tape)
    finals = tuple(
        _widened(_batched(arrival.gradient, call.inputs), tape) for arrival in call.state_arrivals
    )
    return Segment(replay, tape.axis, output, None, finals)


def _widened(gradient: Tensor | None, tape: Tape) -> Tensor | None:
    """Give a gradient the type of the tape, where a 16-bit one was widened."""
    return gradient if gradient is None else gradient.to(tape.hidden.dtype)


def _remembered(call: FusedCall, module: nn.RNNBase) -> Replay | None:
    """Return the tapes of what the user's own pass left in the core; ``None`` for running it again.

    A call whose input or weights have been changed in place since is run again, which finds out
    whether it matters.
    """
    forwards, call.forwards = call.forwards, []
    usable = isinstance(module, Remembering) and forwards and call.autocast is None
    if not usable or call.versions != call.current_versions():
        return None
    assert isinstance(module, Remembering)
    return module.replay_remembered(call.weights, call.inputs, call.output, forwards)


def _replay(call: FusedCall, module: nn.RNNBase) -> Replay:
    state = None
    if call.entering:
        state = call.entering if module.mode == "LSTM" else call.entering[0]
    given = (call.weights, call.inputs, state, call.output, call.rng_state)
    device = call.output.device.type
    # Without the cache: it would keep the user's weights, rounded, until their own context ends.
    with torch.autocast(
        device, call.autocast, enabled=call.autocast is not None, cache_enabled=False
    ):
        if isinstance(module, Replayable):
            # What holds when the call is found may change before it is made: train() for eval().
            if (reason := module.why_not_replayable()) is not None:
                raise NotMeasurableError(reason)
            return module.replay(*given)
        replay = replay_torch(module, *given)
    in_single(replay, call.autocast)
    return replay


def _padded_gradient(call: FusedCall, module: nn.RNNBase) -> Tensor | None:
    """Return the arriving output gradient as ``(T, B, D·H)`` in module time."""
    gradient = call.output_arrival.gradient
    if gradient is None:
        return None
    if isinstance(call.inputs, PackedSequence):
        packed = PackedSequence(gradient, call.inputs.batch_sizes, call.inputs.sorted_indices,
                                call.inputs.unsorted_indices)  # fmt: skip
        return torch.nn.utils.rnn.pad_packed_sequence(packed)[0]
    if gradient.dim() == 2:
        return gradient.unsqueeze(1)
    return gradient.transpose(0, 1) if module.batch_first else gradient


def _batched(gradient: Tensor | None, inputs: object) -> Tensor | None:
    unbatched = isinstance(inputs, Tensor) and inputs.dim() == 2
    return gradient.unsqueeze(1) if gradient is not None and unbatched else gradient
