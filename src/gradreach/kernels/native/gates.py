"""Gates out of pre-activations in one pass of the compiled core."""

from __future__ import annotations

import torch
from torch import Tensor

from gradreach.kernels.native.pages import fresh
from gradreach.kernels.native.series import address, core_for

__all__ = ["open_gru", "open_lstm"]


def open_gru(from_input: Tensor, from_state: Tensor) -> Tensor | None:
    """Turn ``from_input`` ``(T, B, 3H)`` into r, z, n in place; return q = W_hn h + b_hn.

    ``None``, nothing done, where the core does not take the call.
    """
    core = core_for(from_input, from_state)
    if core is None or not (from_input.is_contiguous() and from_state.is_contiguous()):
        return None
    steps, batch, wide = from_input.shape
    q = fresh((steps, batch, wide // 3), from_input)
    core.open_gates(from_input.dtype is torch.float64, 1, steps, batch, wide // 3,
                    torch.get_num_threads(), from_input.data_ptr(), from_state.data_ptr(),
                    q.data_ptr(), 0, 0)  # fmt: skip
    return q


def open_lstm(total: Tensor, first_cell: Tensor | None) -> tuple[bool, Tensor | None]:
    """Turn ``total`` ``(T, B, 4H)`` into i, f, g, o in place.

    Args:
        first_cell: c_0 ``(B, H)``, where the cell states are to be rebuilt, too.

    Returns:
        Whether the core took the call, and the states c_0 … c_T ``(T + 1, B, H)``; they are
        summed in float64 and kept in the user's dtype.
    """
    core = core_for(total, first_cell)
    if core is None or not total.is_contiguous():
        return False, None
    steps, batch, wide = total.shape
    states = carried = None
    if first_cell is not None:
        states = fresh((steps + 1, batch, wide // 4), total)
        states[0] = first_cell
        carried = first_cell.to(torch.float64, copy=True).contiguous()
    core.open_gates(total.dtype is torch.float64, 2, steps, batch, wide // 4,
                    torch.get_num_threads(), total.data_ptr(), 0, 0, address(states),
                    address(carried))  # fmt: skip
    return True, states
