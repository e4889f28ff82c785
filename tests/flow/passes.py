"""One recorded pass of a model, as far as its tracks and its sweep."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gradreach.flow.assemble import Swept, swept
from gradreach.flow.backward import run_backward
from gradreach.flow.find import find_recurrent
from gradreach.flow.sources.calls import FusedCall, RecordedCall
from gradreach.flow.sources.cells import cells_track
from gradreach.flow.sources.fused import fused_track
from gradreach.flow.sources.links import chains_of
from gradreach.flow.sources.recorder import Recorder
from gradreach.flow.track import Track


def recorded(
    model: nn.Module, closure: Callable[[], Tensor]
) -> tuple[list[RecordedCall], dict[int, Tensor | None]]:
    """Run a pass with its backward."""
    with Recorder(find_recurrent(model).watched) as recorder:
        gradients = run_backward(recorder, closure())
    return recorder.calls, gradients


def tracks_of(model: nn.Module, closure: Callable[[], Tensor]) -> list[Track]:
    """Return a track for each chain of calls."""
    calls, _ = recorded(model, closure)
    build = fused_track if isinstance(calls[0], FusedCall) else cells_track
    return [build(chain, f"rnn#{place}") for place, chain in enumerate(chains_of(calls))]


def swept_of(model: nn.Module, closure: Callable[[], Tensor]) -> Swept:
    """Sweep the only track of a pass."""
    (track,) = tracks_of(model, closure)
    return swept(track)


def packed(x: Tensor, lengths: list[int]) -> nn.utils.rnn.PackedSequence:
    """Pack ``(T, B, I)`` in the users' order."""
    return nn.utils.rnn.pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
