"""A second opinion on a tape of our own layers: autograd through a plain loop over its steps.

As `widened` is for torch's cells. In the user's dtype; used only where the sum of contributions
cannot be held against the user's own backward, or does not agree with it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from gradreach.kernels.recurrence import CellWeights
from gradreach.kernels.reference import STEPS, State
from gradreach.kernels.reverse_scan import StateFlow
from gradreach.kernels.tape import Tape

__all__ = ["extended_gradients", "extended_step_gradients"]


def extended_gradients(
    tape: Tape, arriving: Callable[[int, int], Tensor] | None, end: StateFlow
) -> dict[str, Tensor]:
    """Return the gradient of each parameter, by its name.

    Args:
        arriving: Gradient at the outputs by ``(start, stop)``; end: at the last states.
    """
    assert tape.extension is not None
    numbers, every = _learned(tape), tape.extension.dilation
    narrow = _projection(tape)
    dtype, rows = tape.hidden.dtype, torch.arange(tape.axis.batch)
    cell = None if tape.previous_cell is None else tape.previous_cell[0]
    with torch.enable_grad():
        states: list[State] = [(tape.previous[0], cell)] * every  # of the steps -every … -1
        for step in range(tape.axis.steps):
            states.append(_step(tape, numbers, narrow, step, states))
        hidden = torch.stack([state[0] for state in states[every:]])
        last = tape.axis.lengths - 1
        outputs, gradients = [hidden[last, rows]], [end.hidden[0].to(dtype)]
        if arriving is not None:
            outputs.append(hidden)
            gradients.append(arriving(0, tape.axis.steps)[:, 0].to(dtype))
        if end.cell is not None:
            cells = torch.stack([state[1] for state in states[every:] if state[1] is not None])
            outputs.append(cells[last, rows])
            gradients.append(end.cell[0].to(dtype))
    return _pulled(tape, numbers, narrow, outputs, gradients)


def extended_step_gradients(
    tape: Tape, hidden: Tensor, cell_alone: Tensor | None
) -> dict[str, Tensor]:
    """Return the gradient of each parameter of a cell, all its steps run as one batch.

    Args:
        hidden: Total gradients of h, ``(T, B, H)``; cell_alone: those of c that did not come
            through h.
    """
    numbers = _learned(tape)
    before = None if tape.previous_cell is None else tape.previous_cell.flatten(0, 1)
    with torch.enable_grad():
        entering = (tape.previous.flatten(0, 1), before)
        fresh = _advance(tape, numbers, tape.inputs.flatten(0, 1), entering)
        outputs = [_connected(tape, numbers, None, fresh[0], [entering])]
        gradients = [hidden.flatten(0, 1).to(tape.hidden.dtype)]
        if fresh[1] is not None and cell_alone is not None:
            outputs.append(fresh[1])
            gradients.append(cell_alone.flatten(0, 1).to(tape.hidden.dtype))
    return _pulled(tape, numbers, None, outputs, gradients)


def _learned(tape: Tape) -> CellWeights:
    assert tape.extension is not None
    return tape.extension.moved(lambda part: part.detach().clone().requires_grad_()).numbers


def _projection(tape: Tape) -> Tensor | None:
    """Return a leaf with the values of W_hr, where there is one; no cell of one step has it."""
    assert tape.extension is not None
    narrow = tape.extension.projection
    return None if narrow is None else narrow.detach().clone().requires_grad_()


def _step(
    tape: Tape, numbers: CellWeights, narrow: Tensor | None, step: int, states: list[State]
) -> State:
    assert tape.extension is not None
    entering = states[-tape.extension.dilation]
    hidden, cell = _advance(tape, numbers, tape.inputs[step].detach(), entering)
    return _connected(tape, numbers, narrow, hidden, states), cell


def _advance(tape: Tape, numbers: CellWeights, inputs: Tensor, entering: State) -> State:
    assert tape.extension is not None
    now = F.linear(inputs, numbers.input, numbers.input_bias)
    past = F.linear(entering[0], numbers.recurrent, numbers.recurrent_bias)
    cell = tape.extension.cell
    return STEPS[cell.kind](cell, numbers, now, past, entering, None)


def _connected(
    tape: Tape, numbers: CellWeights, narrow: Tensor | None, fresh: Tensor, states: list[State]
) -> Tensor:
    assert tape.extension is not None
    if narrow is not None:
        return F.linear(fresh, narrow)
    result = fresh if numbers.scale is None else numbers.scale * fresh
    for place, reach in enumerate(tape.extension.reaches):
        if reach <= len(states):
            assert numbers.carries is not None
            result = result + numbers.carries[place] * states[-reach][0]
    return result


def _pulled(
    tape: Tape,
    numbers: CellWeights,
    narrow: Tensor | None,
    outputs: list[Tensor],
    gradients: list[Tensor],
) -> dict[str, Tensor]:
    """Differentiate, and bring the gradients of the kernel's numbers to the parameters."""
    assert tape.extension is not None
    wanted: dict[str, Tensor] = {
        name: part for name, part in numbers._asdict().items() if part is not None
    }
    if narrow is not None:
        wanted["projection"] = narrow
    # A cell of one step may leave a number unused: its gradient is 0.
    found = torch.autograd.grad(
        outputs, list(wanted.values()), gradients, allow_unused=True, materialize_grads=True
    )
    by_number = {name: gradient.double() for name, gradient in zip(wanted, found, strict=True)}
    if tape.extension.mirrored:
        by_number["recurrent"] = by_number["recurrent"] - by_number["recurrent"].T
    order = [name for name in ("input", "recurrent", "input_bias", "recurrent_bias")
             if name in by_number]  # fmt: skip
    result = dict(zip(tape.weights.names, (by_number[name] for name in order), strict=True))
    return result | {own.name: own.pull(by_number[own.number]) for own in tape.extension.learned}
