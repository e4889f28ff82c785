"""The native kernels: whether a call can run on them, and the call itself."""

from __future__ import annotations

import torch
from torch import Tensor

from gradreach.kernels.native.core import load, why_not_loaded
from gradreach.kernels.native.function import run_native
from gradreach.kernels.recurrence import CellWeights, Recurrence

__all__ = ["run", "why_not"]

DTYPES = (torch.float32, torch.float64)


def why_not(
    cell: Recurrence,
    inputs: Tensor,
    hidden: Tensor,
    cell_state: Tensor | None,
    weights: CellWeights,
    batch_sizes: Tensor | None = None,
) -> str | None:
    """Say in one sentence why the native core does not take a call; ``None`` where it does.

    Example:
        >>> half = torch.zeros(3, 1, 2, dtype=torch.float16)
        >>> weights = CellWeights(half[0].expand(4, 2), half.new_zeros(4, 4))
        >>> reason = why_not(Recurrence("rnn"), half, half.new_zeros(1, 4), None, weights)
        >>> reason == why_not_loaded() or "float16" in reason
        True
    """
    compiling = torch.compiler.is_compiling()
    if compiling:
        from gradreach.kernels.native import ops

        most_skips, not_loaded = ops.MOST_SKIPS, ops.NOT_LOADED
    else:
        core = load()
        most_skips, not_loaded = getattr(core, "MOST_SKIPS", 0), why_not_loaded()
    if not_loaded is not None:
        return not_loaded
    dtype = inputs.dtype
    if dtype not in DTYPES:
        return f"the numbers are {str(dtype).removeprefix('torch.')}, not float32 or float64"
    for tensor in (inputs, hidden, cell_state, *weights):
        if tensor is not None and not (tensor.is_cpu and tensor.dtype == dtype):
            return "not all tensors are on the CPU and of one dtype"
    if not inputs.shape[-1] or not hidden.shape[-1]:
        return "there are no inputs or no units"
    return _equations(cell, weights, most_skips) or _transformed(compiling)


def _equations(cell: Recurrence, weights: CellWeights, most_skips: int) -> str | None:
    """Say what of the equations themselves the core lacks."""
    activation = cell.activation
    if activation.name == "leaky_relu" and activation.parameter < 0:
        return "with a negative slope the state does not tell the activation's derivative"
    if activation.name == "elu" and activation.parameter <= 0:
        return "with alpha <= 0 the state does not tell the activation's derivative"
    if len(cell.skips) > most_skips:
        return f"there are {len(cell.skips)} skip connections; the core takes {most_skips}"
    if cell.kind != "rnn" and weights.scale is not None:
        return f"a scaled update of a {cell.kind} is not in the core"
    return None


def _transformed(compiling: bool) -> str | None:
    """Say whether somebody differentiates or maps the call in a way that needs plain operations."""
    if torch._C._functorch.maybe_current_level() is not None:
        return "a function transform (torch.func) is at work"
    if torch.autograd.forward_ad._current_level >= 0:
        return "forward-mode differentiation is at work"
    if not compiling and torch._C._get_tracing_state() is not None:
        return "the call is being traced"
    return None


def run(
    cell: Recurrence,
    inputs: Tensor,
    hidden: Tensor,
    cell_state: Tensor | None,
    weights: CellWeights,
    batch_sizes: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Run one layer in one direction natively; as `gradreach.kernels.recurrence.run`.

    The caller has asked `why_not`.
    """
    if torch.compiler.is_compiling():
        from gradreach.kernels.native import ops

        return ops.run(cell, inputs, hidden, cell_state, weights, batch_sizes, reverse)
    return run_native(cell, inputs, hidden, cell_state, weights, batch_sizes, reverse)
