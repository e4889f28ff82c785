"""Layers whose state is cut off the graph elsewhere than the script says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from gradreach.treatments.pass_count import passes

__all__ = ["Recut", "recut"]

MARK = "gradreach.recut"  # in a graph node's own dict for remarks
SEARCH_NODES = 200  # behind an entering state: what a script does to it between two calls

State = Tensor | tuple[Tensor, ...] | None


@dataclass
class _Left:
    """The states that a layer returned last, and how many passes there had been."""

    states: tuple[Tensor, ...]
    passes: int


_left: WeakKeyDictionary[nn.Module, _Left] = WeakKeyDictionary()


class Recut(nn.Module):
    """Mixed into a recurrent class: changes the state on its way into each call.

    It stands in ``__call__``, around torch's hooks: whoever watches the layer sees the calls and
    states as they are.

    Attributes:
        recut_steps: Steps after which the state is detached within one call; 0 for none.
        recut_joins: A detached state of the pass that is not back-propagated yet is attached.
        recut_detaches: A state that still hangs on the graph of an earlier pass is detached.
    """

    recut_steps = 0
    recut_joins = False
    recut_detaches = False

    def __call__(self, input: Any, hx: State = None) -> Any:
        """Call the layer with the state as it is to be."""
        if not torch.is_grad_enabled():
            return super().__call__(input, hx)
        entering = _states(hx)
        if self.recut_joins:
            entering = self._joined(entering)
        if self.recut_detaches:
            entering = tuple(s.detach() if _is_past(s) else s for s in entering)
        given = _like(entering, hx)
        if self.recut_steps and isinstance(self, nn.RNNBase):
            result = _in_chunks(self, super().__call__, input, given)
        else:
            result = super().__call__(input, given)
        self._remember(result)
        return result

    def _joined(self, entering: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        left = _left.get(self)
        if left is None or left.passes != passes() or len(left.states) != len(entering):
            return entering
        if any(state.requires_grad for state in entering):
            return entering
        same = all(map(_same_values, entering, left.states))
        return left.states if same else entering

    def _remember(self, result: Any) -> None:
        leaving = _states(result[1] if isinstance(self, nn.RNNBase) else result)
        if self.recut_joins:
            _left[self] = _Left(leaving, passes())
        if self.recut_detaches:
            for state in leaving:
                if state.grad_fn is not None:
                    remarks: Any = state.grad_fn.metadata
                    remarks[MARK] = passes()

    def _get_name(self) -> str:
        return type(self).__mro__[2].__name__  # the class that it is mixed into


class RecutRNN(Recut, nn.RNN):
    """`torch.nn.RNN`, cut elsewhere."""


class RecutGRU(Recut, nn.GRU):
    """`torch.nn.GRU`, cut elsewhere."""


class RecutLSTM(Recut, nn.LSTM):
    """`torch.nn.LSTM`, cut elsewhere."""


class RecutRNNCell(Recut, nn.RNNCell):
    """`torch.nn.RNNCell`, cut elsewhere."""


class RecutGRUCell(Recut, nn.GRUCell):
    """`torch.nn.GRUCell`, cut elsewhere."""


class RecutLSTMCell(Recut, nn.LSTMCell):
    """`torch.nn.LSTMCell`, cut elsewhere."""


# Named classes for torch's, so that whole models can be saved; others are made when needed.
_classes: dict[type, type] = {
    nn.RNN: RecutRNN, nn.GRU: RecutGRU, nn.LSTM: RecutLSTM,
    nn.RNNCell: RecutRNNCell, nn.GRUCell: RecutGRUCell, nn.LSTMCell: RecutLSTMCell,
}  # fmt: skip


def recut(layer: nn.Module, *, steps: int = 0, joins: bool = False, detaches: bool = False) -> None:
    """Change where the state of a recurrent layer or cell is cut; see `Recut`.

    Parameters, buffers, hooks and saved weights stay what they are; the instance gets a subclass
    of its class.

    Example:
        >>> layer = nn.RNN(1, 1)
        >>> recut(layer, steps=2)
        >>> x = torch.ones(5, 1, 1, requires_grad=True)
        >>> layer(x)[0][-1].sum().backward()
        >>> (x.grad != 0).flatten().tolist()  # the last chunk is one step long
        [False, False, False, False, True]
    """
    passes()  # counted from here on
    kind = type(layer)
    if not issubclass(kind, Recut):
        if kind not in _classes:
            _classes[kind] = type(f"Recut{kind.__name__}", (Recut, kind), {})
        layer.__class__ = _classes[kind]
    chunked: Any = layer
    chunked.recut_steps, chunked.recut_joins, chunked.recut_detaches = steps, joins, detaches


def _in_chunks(layer: nn.RNNBase, call: Any, input: Any, hx: State) -> Any:
    """Call a layer on one stretch of steps after another, with the state detached between."""
    if isinstance(input, PackedSequence):
        return _in_packed_chunks(layer, call, input, hx)
    axis = 1 if layer.batch_first and input.dim() == 3 else 0
    outputs: list[Tensor] = []
    for chunk in torch.split(input, _steps_of(layer), dim=axis):
        output, hx = call(chunk, _detached(hx) if outputs else hx)
        outputs.append(output)
    return torch.cat(outputs, axis), hx


def _in_packed_chunks(layer: nn.RNNBase, call: Any, packed: PackedSequence, hx: State) -> Any:
    """Do so for a packed sequence: each stretch has the rows that are still alive in it."""
    order, back = packed.sorted_indices, packed.unsorted_indices
    hx = hx if order is None else _mapped(lambda s: s.index_select(1, order), hx)
    outputs: list[Tensor] = []
    ended: list[State] = []  # the states of the rows that end in a stretch, the longest rows last
    sizes = torch.split(packed.batch_sizes, _steps_of(layer))
    parts = torch.split(packed.data, [int(each.sum()) for each in sizes])
    alive = [int(each[0]) for each in sizes] + [0]
    for place, (size, data) in enumerate(zip(sizes, parts, strict=True)):
        given = _rows(hx, 0, alive[place])
        output, hx = call(PackedSequence(data, size), _detached(given) if place else given)
        outputs.append(output.data)
        ended.append(_rows(hx, alive[place + 1], alive[place]))
    last = _joined_rows(ended[::-1])
    last = last if back is None else _mapped(lambda s: s.index_select(1, back), last)
    return PackedSequence(torch.cat(outputs), packed.batch_sizes, order, back), last


def _steps_of(layer: Any) -> int:
    """Return after how many steps a layer is cut."""
    steps: int = layer.recut_steps
    return steps


def _mapped(act: Callable[[Tensor], Tensor], state: State) -> State:
    return _like(tuple(map(act, _states(state))), state)


def _rows(state: State, first: int, end: int) -> State:
    return _mapped(lambda each: each[:, first:end], state)


def _joined_rows(states: list[State]) -> State:
    parts = zip(*map(_states, states), strict=True)
    return _like(tuple(torch.cat(part, 1) for part in parts), states[0])


def _states(state: Any) -> tuple[Tensor, ...]:
    if state is None:
        return ()
    return tuple(state) if isinstance(state, tuple | list) else (state,)


def _like(states: tuple[Tensor, ...], given: State) -> State:
    """Return states in the form in which they were given."""
    if given is None:
        return None
    return states if isinstance(given, tuple | list) else states[0]


def _detached(state: State) -> State:
    return _like(tuple(each.detach() for each in _states(state)), state)


def _same_values(entering: Tensor, left: Tensor) -> bool:
    """Whether a state is one that was returned, cut off its graph by whatever means."""
    if not left.requires_grad or entering.shape != left.shape or entering.dtype != left.dtype:
        return False
    return entering.data_ptr() == left.data_ptr() or torch.equal(entering, left.detach())


def _is_past(state: Tensor) -> bool:
    """Whether a state hangs on the graph of a pass that has been back-propagated."""
    return any(mark < passes() for mark in _marks_behind(state.grad_fn))


def _marks_behind(node: Any) -> Iterator[int]:
    """Yield the marks behind a node, the nearest of each path only."""
    queue, known = [node] if node is not None else [], {node}
    for place, each in enumerate(queue):
        mark = each.metadata.get(MARK)
        if mark is not None:
            yield mark
            continue
        if place >= SEARCH_NODES:
            return
        new = [after for after, _ in each.next_functions if after not in known]
        known.update(new)
        queue += [after for after in new if after is not None]
