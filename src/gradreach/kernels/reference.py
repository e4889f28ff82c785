"""One recurrent layer in plain torch: readable, and differentiable any number of times.

The yardstick of the native core and the path wherever that does not reach: other devices and
dtypes, activations of the user's own, double backward, forward mode, vmap.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gradreach.kernels.recurrence import CellWeights, Norms, Recurrence

__all__ = ["run", "step"]

State = tuple[Tensor, Tensor | None]


def run(
    cell: Recurrence,
    inputs: Tensor,
    hidden: Tensor,
    cell_state: Tensor | None,
    weights: CellWeights,
    batch_sizes: Tensor | None = None,
    reverse: bool = False,
    norms: Norms | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Run one layer in one direction; arguments and result as `kernels.recurrence.run`."""
    # The input's product for all steps at once, as torch does: one large matrix product.
    gain = None if norms is None else norms.input
    projected = _product(inputs, weights.input, weights.input_bias, gain)
    if batch_sizes is None:
        steps = projected.unbind(0)
    else:
        steps = torch.split_with_sizes(projected, batch_sizes.tolist())
    advance = STEPS[cell.kind]
    hide = _mask(cell, hidden)
    start = (hidden, cell_state)
    state = _first(start, len(steps[-1] if reverse else steps[0]))
    outputs: list[Tensor] = []
    entered: list[Tensor] = []  # the h that entered each step so far, oldest first
    ended: list[State] = []  # last states of the rows that are over, shortest first
    for now in reversed(steps) if reverse else steps:
        state = _alive(state, len(now), start, ended)
        entered.append(state[0])
        seen = state[0] if hide is None else state[0] * hide[: len(now)]
        gain = None if norms is None else norms.recurrent
        past = _product(seen, weights.recurrent, weights.recurrent_bias, gain)
        fresh, cell_now = advance(cell, weights, now, past, state, norms)
        state = _zoned(cell, (_connected(cell, weights, fresh, entered), cell_now), state)
        outputs.append(state[0])
    if reverse:
        outputs.reverse()
    ended.append(state)
    h_n = torch.cat([part[0] for part in reversed(ended)])
    cells = [part[1] for part in reversed(ended) if part[1] is not None]
    output = torch.stack(outputs) if batch_sizes is None else torch.cat(outputs)
    return output, h_n, torch.cat(cells) if cells else None


def step(
    cell: Recurrence,
    inputs: Tensor,
    hidden: Tensor,
    cell_state: Tensor | None,
    weights: CellWeights,
) -> State:
    """Run one step of a cell whose only skips, if any, have lag 1.

    Shape:
        inputs: ``(B, I)``; hidden, cell_state and both results: ``(B, H)``.

    Example:
        >>> weights = CellWeights(torch.ones(1, 1), torch.ones(1, 1))
        >>> step(Recurrence("rnn"), torch.zeros(1, 1), torch.ones(1, 1), None, weights)[0]
        tensor([[0.7616]])
    """
    now = F.linear(inputs, weights.input, weights.input_bias)
    past = F.linear(hidden, weights.recurrent, weights.recurrent_bias)
    fresh, cell_now = STEPS[cell.kind](cell, weights, now, past, (hidden, cell_state), None)
    return _connected(cell, weights, fresh, [hidden]), cell_now


def _first(state: State, rows: int) -> State:
    return state[0][:rows], None if state[1] is None else state[1][:rows]


def _alive(state: State, rows: int, start: State, ended: list[State]) -> State:
    """Bring the state to the rows alive at this step.

    Forwards in time rows end, and their last state is put aside; backwards rows begin, from
    the state that was given.
    """
    had = len(state[0])
    if rows < had:
        ended.append((state[0][rows:], None if state[1] is None else state[1][rows:]))
        return _first(state, rows)
    if rows > had:
        begun = _first(start, rows)
        hidden = torch.cat([state[0], begun[0][had:]])
        if state[1] is None or begun[1] is None:
            return hidden, None
        return hidden, torch.cat([state[1], begun[1][had:]])
    return state


def _connected(
    cell: Recurrence, weights: CellWeights, fresh: Tensor, entered: list[Tensor]
) -> Tensor:
    """Return h_t: the plain cell's result, scaled, and what the skips bring."""
    result = fresh if weights.scale is None else weights.scale * fresh
    for place, lag in enumerate(cell.skips):
        if lag > len(entered):
            continue  # before h_0: counts as 0
        assert weights.carries is not None
        past = entered[-lag][: len(fresh)]
        carried = weights.carries[place] * past
        missing = len(fresh) - len(past)  # backwards in time: rows that had not begun
        result = result + (F.pad(carried, (0, 0, 0, missing)) if missing else carried)
    return result


def _product(values: Tensor, weight: Tensor, bias: Tensor | None, gain: Tensor | None) -> Tensor:
    """Return W·v + b; with a gain the product is normalised, and b is the norm's shift.

    Over all gates at once, as Ba, Kiros & Hinton (2016), arXiv:1607.06450, eqs. 20-22.
    """
    if gain is None:
        return F.linear(values, weight, bias)
    return F.layer_norm(F.linear(values, weight), gain.shape, gain, bias)


def _mask(cell: Recurrence, hidden: Tensor) -> Tensor | None:
    """Draw which units the recurrent product does not see, once for the whole sequence.

    Gal & Ghahramani (2016), arXiv:1512.05287.
    """
    if not cell.recurrent_dropout:
        return None
    return F.dropout(torch.ones_like(hidden), cell.recurrent_dropout)


def _zoned(cell: Recurrence, after: State, before: State) -> State:
    """Let some units keep the value they had.

    Krueger et al. (2017), arXiv:1606.01305.
    """
    if cell.zoneout == (0.0, 0.0):
        return after
    hidden = _kept(cell, after[0], before[0], cell.zoneout[0])
    if after[1] is None or before[1] is None:
        return hidden, None
    return hidden, _kept(cell, after[1], before[1], cell.zoneout[1])


def _kept(cell: Recurrence, after: Tensor, before: Tensor, share: float) -> Tensor:
    if not cell.stochastic:
        return torch.lerp(after, before, share)
    return torch.where(torch.rand_like(after) < share, before, after)


def _rnn(
    cell: Recurrence, weights: CellWeights, now: Tensor, past: Tensor, _: State, __: Norms | None
) -> State:
    return cell.activation(_clipped(cell, past + now), weights.activation_bias), None


def _gru(
    cell: Recurrence,
    weights: CellWeights,
    now: Tensor,
    past: Tensor,
    state: State,
    _: Norms | None,
) -> State:
    hidden = state[0]
    now_r, now_z, now_n = _clipped(cell, now).chunk(3, 1)
    past_r, past_z, past_n = _clipped(cell, past).chunk(3, 1)
    reset = (past_r + now_r).sigmoid()
    keep = (past_z + now_z).sigmoid()
    candidate = cell.activation(now_n + reset * past_n, weights.activation_bias)
    return (hidden - candidate) * keep + candidate, None


def _lstm(
    cell: Recurrence,
    weights: CellWeights,
    now: Tensor,
    past: Tensor,
    state: State,
    norms: Norms | None,
) -> State:
    memory = state[1]
    assert memory is not None
    i, f, g, o = _clipped(cell, past + now).chunk(4, 1)
    candidate = cell.activation(g, weights.activation_bias)
    memory = f.sigmoid() * memory + i.sigmoid() * candidate
    shown = memory
    if norms is not None:
        shown = F.layer_norm(memory, memory.shape[-1:], norms.cell_gain, norms.cell_shift)
    return o.sigmoid() * cell.activation(shown, weights.activation_bias), memory


Step = Callable[[Recurrence, CellWeights, Tensor, Tensor, State, Norms | None], State]

STEPS: dict[str, Step] = {
    "rnn": _rnn,
    "gru": _gru,
    "lstm": _lstm,
}


def _clipped(cell: Recurrence, values: Tensor) -> Tensor:
    if cell.clip is None:
        return values
    clipped: Tensor = ClippedError.apply(values, cell.clip)  # type: ignore[no-untyped-call]
    return clipped


class ClippedError(torch.autograd.Function):
    """The identity, whose backward bounds each entry of the error that passes."""

    generate_vmap_rule = True

    @staticmethod
    def forward(values: Tensor, bound: float) -> Tensor:
        """Return a view of the values."""
        return values.view_as(values)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        """Keep the bound."""
        ctx.bound = inputs[1]

    @staticmethod
    def backward(ctx: Any, error: Tensor) -> tuple[Tensor, None]:
        """Bound the error."""
        return error.clamp(-ctx.bound, ctx.bound), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        """Forwards in mode nothing is clipped: there is no error that runs back."""
        return tangent.view_as(tangent)
