"""Checks the sum of contributions against the gradient torch computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import _VF, Tensor

from gradreach.flow.assemble import Swept
from gradreach.flow.norms import total_norm
from gradreach.flow.sweep import Arriving, LossInjection, sweep
from gradreach.flow.track import Track
from gradreach.kernels.equations import equations_for
from gradreach.kernels.extended_opinion import extended_gradients, extended_step_gradients
from gradreach.kernels.native.rows import distance
from gradreach.kernels.reverse_scan import Chunk, StateFlow
from gradreach.kernels.tape import LayerWeights
from gradreach.kernels.widened import widened_gradients

__all__ = ["Closure", "check_closure", "relative_error"]

# Far above the rounding of a sane net (1e-6, 1e-14) and of a chaotic one replayed with the
# same bits (2e-4), far below any wrong replay seen (0.9 and more): decisions/0004-replay.md.
TOLERANCE = {
    torch.float32: 1e-3, torch.float64: 1e-8, torch.float16: 2e-2, torch.bfloat16: 1e-1
}  # fmt: skip
TF32 = 2e-2  # where cuDNN may round float32 to the 10 bits of TF32: as for float16
ROWS = 32  # rows of a weight compared at once
CELLS: dict[str, Callable[..., Any]] = {
    "tanh": _VF.rnn_tanh_cell,
    "relu": _VF.rnn_relu_cell,
    "gru": _VF.gru_cell,
    "lstm": _VF.lstm_cell,
}


@dataclass
class Closure:
    """The closure fields of a module's layers, each a mapping from weight to value."""

    closure_error: dict[str, float] = field(default_factory=dict)
    closure_reference: dict[str, str] = field(default_factory=dict)
    outside_gradient: dict[str, float] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def fields(self) -> dict[str, dict[str, Any]]:
        """Return the fields by the names the record gives them."""
        return {
            "closure_error": self.closure_error,
            "closure_reference": self.closure_reference,
            "outside_gradient": self.outside_gradient,
        }


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Return ‖found - expected‖/‖expected‖ (0 where both are 0, infinite where one is)."""
    apart = distance(found, expected)
    if apart is not None:
        difference = torch.tensor(apart, dtype=torch.float64)
        return _quotient(difference, total_norm(expected))
    if not found.dim():  # a single number of its own, α of a residual path, say
        found, expected = found[None], expected[None]
    pairs = zip(torch.split(found, ROWS), torch.split(expected, ROWS), strict=True)
    difference = total_norm(torch.stack([total_norm(a - b.double()) for a, b in pairs]))
    return _quotient(difference, total_norm(expected))


def _quotient(difference: Tensor, norm: Tensor) -> float:
    if float(norm) == 0.0:
        return 0.0 if float(difference) == 0.0 else float("inf")
    return float(difference / norm)


def check_closure(results: list[Swept], gradients: dict[int, Tensor | None]) -> Closure:
    """Compare Σ_k c_k of all tracks of a module with the gradient of each weight.

    Args:
        results: The module's tracks. gradients: By ``id`` of the weight, the gradient the user's
            backward pass sent to it; ``None`` or absent where it takes none (frozen).
    """
    checked = Closure()
    sums: dict[str, Tensor] = {}
    tensors: dict[str, Tensor] = {}
    rounded: dict[str, torch.dtype] = {}
    for result in results:
        for place, contributions in result.contributions.items():
            tape = result.track.tapes(*place)[0]
            tensors |= tape.parameters()
            rounded |= dict.fromkeys(contributions, tape.rounded_to)
            for name, contribution in contributions.items():
                own = contribution.total
                sums[name] = sums[name] + own if name in sums else own
    opinions: dict[str, Tensor] | None = None
    for name, total in sums.items():
        tolerance = _tolerance(rounded[name], total)
        gradient = gradients.get(id(tensors[name]))
        checked.outside_gradient[name] = 0.0
        if gradient is not None:
            error = relative_error(total, gradient)
            checked.closure_error[name], checked.closure_reference[name] = error, "backward"
            if error <= tolerance or not bool(gradient.isfinite().all()):
                continue
        opinions = _second_opinions(results) if opinions is None else opinions
        error = relative_error(total, opinions[name])
        if error > tolerance:  # a NaN is no failure: the record names it as ``nonfinite``
            checked.failed.append(name)
            continue
        checked.closure_error[name], checked.closure_reference[name] = error, "replay"
        if gradient is not None:
            checked.outside_gradient[name] = relative_error(total, gradient)
    return checked


def _tolerance(dtype: torch.dtype, like: Tensor) -> float:
    if dtype == torch.float32 and like.is_cuda and torch.backends.cudnn.allow_tf32:
        return TF32
    return TOLERANCE[dtype]


def _second_opinions(results: list[Swept]) -> dict[str, Tensor]:
    """Return each weight's gradient by torch's own backward of each layer alone."""
    sums: dict[str, Tensor] = {}
    for result in results:
        if result.track.source == "cells":
            _stepwise(result, sums)
        else:
            _widened(result.track, sums)
    return sums


def _widened(track: Track, sums: dict[str, Tensor]) -> None:
    """Add the gradients of torch's fused layers, run on a widened input."""
    recording = _Recording(track)
    arrived: list[Arriving] = []

    def observe(layer: int, direction: int, arriving: Arriving) -> None:
        arrived.append(arriving)

    def sink(layer: int, direction: int, segment: int, chunk: Chunk) -> None:
        if chunk.start == 0:  # the last chunk of a segment: all its arrivals are known
            tape = track.tapes(layer, direction)[segment]
            arriving, end = arrived[-1][segment], recording.ends[segment]
            if tape.extension is not None:
                _add_named(sums, extended_gradients(tape, arriving, end))
                return
            _add(sums, tape.weights, widened_gradients(tape, arriving, end)[1])

    sweep(track, recording, sink, observe)


class _Recording(LossInjection):
    """Keeps what arrives at the last states of each segment."""

    def __init__(self, track: Track) -> None:
        super().__init__(track)
        self.ends: dict[int, StateFlow] = {}

    def end(self, segment: int, layer: int, direction: int, flow: StateFlow) -> StateFlow:
        arrived = super().end(segment, layer, direction, flow)
        cell = None if arrived.cell is None else arrived.cell.clone()
        self.ends[segment] = StateFlow(arrived.hidden.clone(), cell)
        return arrived


def _stepwise(result: Swept, sums: dict[str, Tensor]) -> None:
    """Add the gradients of torch's cell, run once on all steps as one batch."""
    tape = result.track.tapes(0, 0)[0]
    if tape.extension is not None:
        _add_named(sums, _extended_steps(result))
        return
    learned = [weight.detach().clone().requires_grad_() for _, weight in tape.weights.named()]
    biases: Sequence[Tensor | None] = learned[2:] or [None, None]
    dtype = tape.hidden.dtype
    hidden = result.hidden[0, 0].read(0, tape.axis.steps).flatten(0, 1)
    gradients = [hidden]
    state: Any = tape.previous.flatten(0, 1)
    if tape.kind == "lstm":
        assert tape.previous_cell is not None
        gradients.append(_cell_alone(result).flatten(0, 1))
        state = (state, tape.previous_cell.flatten(0, 1))
    with torch.enable_grad():
        found = CELLS[tape.kind](tape.inputs.flatten(0, 1), state, *learned[:2], *biases)
    outputs = list(found) if tape.kind == "lstm" else [found]
    _add(
        sums,
        tape.weights,
        torch.autograd.grad(outputs, learned, [gradient.to(dtype) for gradient in gradients]),
    )


def _extended_steps(result: Swept) -> dict[str, Tensor]:
    tape = result.track.tapes(0, 0)[0]
    hidden = result.hidden[0, 0].read(0, tape.axis.steps)
    return extended_step_gradients(
        tape, hidden, _cell_alone(result) if tape.kind == "lstm" else None
    )


def _cell_alone(result: Swept) -> Tensor:
    """Return what reaches each c directly: the cell adds the path through h itself."""
    tape, steps = result.track.tapes(0, 0)[0], result.track.steps
    local = equations_for(tape).coefficients(tape, 0, steps).cell_from_hidden
    assert local is not None
    return result.cell[0, 0].read(0, steps) - result.hidden[0, 0].read(0, steps) * local


def _add_named(sums: dict[str, Tensor], gradients: dict[str, Tensor]) -> None:
    for name, gradient in gradients.items():
        sums[name] = sums.get(name, 0) + gradient


def _add(sums: dict[str, Tensor], weights: LayerWeights, gradients: Sequence[Tensor]) -> None:
    for (name, _), gradient in zip(weights.named(), gradients, strict=True):
        sums[name] = sums.get(name, 0) + gradient.double()
