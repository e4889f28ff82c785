"""The memory of one training step of ours: torch's account, plus the core's own workspace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from gradreach.kernels.native.core import load


def account(step: Callable[[], Sequence[Tensor]]) -> dict[str, int]:
    """Return the bytes of a step's results and the most it holds at a time.

    ``tensors`` is the peak of what torch allocates from the beginning of the step on: outputs and
    gradients too. ``workspace`` is all that the core has taken for itself afterwards; it keeps
    that for later calls, so nothing it had is missing.
    """
    core: Any = load()
    step()
    core.workspace_trim()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        results = step()
    workspace = core.workspace_trim()
    # No public name tells single allocations in their order.
    events = watched.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    live = peak = 0
    for _, change in changes:
        live += change
        peak = max(peak, live)
    return {
        "results": sum(result.numel() * result.element_size() for result in results),
        "tensors": peak,
        "workspace": workspace,
    }
