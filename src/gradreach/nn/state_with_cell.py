"""A hidden state that carries the cell state of its LSTM along."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

__all__ = ["StateWithCell"]


class StateWithCell(Tensor):
    """The state h of a `OneStateLSTM`: a tensor, with c as its attribute ``cell``.

    Code written for the one state of an RNN or GRU goes on working: whatever moves a state from
    one call to the next (``detach clone to contiguous``, slicing, indexing, reshaping, joining
    along the batch, a mask or a number that multiplies it, ``where`` between two states, adding
    two states, writing zeros into it) does the same to the cell. Everything else sees h alone
    and gives plain tensors.

    Attributes:
        cell: The cell state, of the shape of h.

    Example:
        >>> h = StateWithCell.of(torch.ones(1, 2, 3), torch.zeros(1, 2, 3))
        >>> type(h.detach()[:, :1]).__name__, h.detach()[:, :1].cell.shape
        ('StateWithCell', torch.Size([1, 1, 3]))
        >>> type(h.tanh()).__name__
        'Tensor'
    """

    cell: Tensor

    @staticmethod
    def of(hidden: Tensor, cell: Tensor) -> StateWithCell:
        """Bind a cell state to its hidden state, which becomes of this class itself."""
        # No alias of it: what is on the graph is the tensor that the layer returned.
        hidden.__class__ = StateWithCell
        assert isinstance(hidden, StateWithCell)
        hidden.cell = cell
        return hidden

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Do to the cell what is done to h, where that moves a state; else forget the cell."""
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():
            found = func(*args, **kwargs)
            keeps = _KEEPS.get(func)
            if keeps is None or not keeps(args, kwargs):
                return found
            return _bound(found, func(*_cells(args), **_cells(kwargs)))

    def __deepcopy__(self, memo: Any) -> StateWithCell:
        with torch._C.DisableTorchFunctionSubclass():
            plain = self.clone() if self.grad_fn is None else copy.deepcopy(self, memo)
            return StateWithCell.of(plain, copy.deepcopy(self.cell, memo))

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Save h and c; ``torch.load`` needs ``weights_only=False``, as for any class of ours."""
        with torch._C.DisableTorchFunctionSubclass():
            return _restored, (self.detach().as_subclass(Tensor), self.cell.detach())


def _restored(hidden: Tensor, cell: Tensor) -> StateWithCell:
    return StateWithCell.of(hidden, cell)


def _bound(hidden: Any, cell: Any) -> Any:
    """Bind results, one or several (``chunk``), to their cells."""
    if isinstance(hidden, Tensor):
        return StateWithCell.of(hidden, cell)
    if isinstance(hidden, tuple | list):
        return type(hidden)(_bound(h, c) for h, c in zip(hidden, cell, strict=True))
    return hidden  # `h[mask] = 0` returns nothing


def _cells(given: Any) -> Any:
    """Return arguments with every state replaced by its cell."""
    if isinstance(given, StateWithCell):
        return given.cell
    if isinstance(given, dict):
        return {name: _cells(value) for name, value in given.items()}
    return type(given)(map(_cells, given)) if type(given) in (tuple, list) else given


def _first(args: Any, kwargs: Any) -> bool:
    """The state itself is moved, not used as an argument."""
    return bool(args) and isinstance(args[0], StateWithCell)


def _scaled(args: Any, kwargs: Any) -> bool:
    """The other factor treats all units of a row alike: a mask over the batch, a number."""
    state, factor = args[:2] if isinstance(args[0], StateWithCell) else args[1::-1]
    return isinstance(state, StateWithCell) and _of_rows(factor)


def _of_rows(factor: Any) -> bool:
    if isinstance(factor, StateWithCell):
        return False
    if not isinstance(factor, Tensor):
        return isinstance(factor, int | float)
    # (an expanded mask repeats one number along the units)
    return not factor.dim() or factor.shape[-1] == 1 or factor.stride(-1) == 0


def _both(args: Any, kwargs: Any) -> bool:
    return len(args) > 1 and all(isinstance(each, StateWithCell) for each in args[:2])


def _chosen(args: Any, kwargs: Any) -> bool:
    """``where`` chooses rows among states, or between a state and zeros."""
    if len(args) != 3 or not _of_rows(args[0]):
        return False
    one, other = args[1:]
    states = [each for each in (one, other) if isinstance(each, StateWithCell)]
    rest = [each for each in (one, other) if not isinstance(each, StateWithCell)]
    return bool(states) and all(_is_zero(each) for each in rest)


def _zeroed(args: Any, kwargs: Any) -> bool:
    """``h[…] = 0``, or a row of another state."""
    state, index, value = args
    if not isinstance(state, StateWithCell) or isinstance(index, StateWithCell):
        return False
    return isinstance(value, StateWithCell) or _is_zero(value)


def _filled(args: Any, kwargs: Any) -> bool:
    state, mask, value = (*args, *kwargs.values())[:3]
    return isinstance(state, StateWithCell) and _of_rows(mask) and _is_zero(value)


def _joined(args: Any, kwargs: Any) -> bool:
    """``cat`` of states along anything but their units."""
    parts = args[0]
    dim = args[1] if len(args) > 1 else kwargs.get("dim", 0)
    if not isinstance(dim, int) or not all(isinstance(each, StateWithCell) for each in parts):
        return False
    return dim not in (-1, parts[0].dim() - 1)


def _is_zero(value: Any) -> bool:
    return not bool(value.any()) if isinstance(value, Tensor) else bool(value == 0)


def _named(names: str, owners: Iterable[Any] = (Tensor, torch)) -> list[Any]:
    return [getattr(owner, n) for n in names.split() for owner in owners if hasattr(owner, n)]


_MOVES = (
    "detach detach_ clone contiguous to cpu cuda float double half bfloat16 type type_as "
    "requires_grad_ __getitem__ narrow select index_select squeeze unsqueeze view reshape "
    "transpose permute movedim expand repeat repeat_interleave flip roll chunk split unbind "
    "zero_ share_memory_ pin_memory"
)
_KEEPS: dict[Any, Callable[[Any, Any], bool]] = {
    **dict.fromkeys([*_named(_MOVES), Tensor.data.__get__], _first),  # type: ignore[attr-defined]
    **dict.fromkeys(_named("mul mul_ multiply __mul__ __rmul__ __imul__"), _scaled),
    **dict.fromkeys(_named("add sub __add__ __sub__ __radd__ __rsub__"), _both),
    **dict.fromkeys(_named("masked_fill masked_fill_"), _filled),
    torch.where: _chosen,
    torch.cat: _joined,
    torch.concat: _joined,
    Tensor.__setitem__: _zeroed,
}
