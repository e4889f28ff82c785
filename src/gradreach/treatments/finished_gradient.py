"""Acts on an optimizer's gradient when it is finished: unscaled, summed, just before its use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

__all__ = ["on_finished_gradient", "parameters_of", "take_factor_out"]


def parameters_of(optimizer: Optimizer) -> list[Tensor]:
    """Return the parameters that an optimizer moves, in the order of its groups.

    Example:
        >>> weight, bias = torch.zeros(2, requires_grad=True), torch.zeros(1, requires_grad=True)
        >>> len(parameters_of(torch.optim.SGD([{"params": [weight]}, {"params": [bias]}])))
        2
    """
    return [p for group in optimizer.param_groups for p in group["params"]]


def on_finished_gradient(
    optimizer: Optimizer, act: Callable[[Optimizer], object]
) -> RemovableHandle:
    """Call ``act`` whenever an optimizer is about to use its gradient.

    That is after all passes of a gradient accumulation and after a ``GradScaler`` has taken its
    factor out; with a closure, after each of its calls. A step that a scaler skips is not one.
    It is a hook of torch's own on this optimizer; copies and saved states do not have it.

    Args:
        act: May change the gradients in place.

    Returns:
        A handle whose ``remove()`` undoes it.

    Example:
        >>> weight = torch.ones(1, requires_grad=True)
        >>> optimizer = torch.optim.SGD([weight], lr=1.0)
        >>> handle = on_finished_gradient(optimizer, lambda its: weight.grad.mul_(0.5))
        >>> (2 * weight).sum().backward()
        >>> optimizer.step()
        >>> weight.item()
        0.0
    """

    def before(its: Optimizer, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        closure = options.get("closure", args[1] if len(args) > 1 else None)
        if closure is None:
            take_factor_out(its)
            act(its)
            return None

        def acted_on() -> Any:
            loss = closure()
            act(its)
            return loss

        if "closure" in options:
            return args, {**options, "closure": acted_on}
        return (args[0], acted_on, *args[2:]), options

    return optimizer.register_step_pre_hook(before)


@torch.no_grad()
def take_factor_out(optimizer: Optimizer) -> None:
    """Divide the gradients by the factor that a fused optimizer is told to divide them by.

    ``GradScaler.step`` leaves that to such an optimizer, so that here the gradient would still
    have it. The operation is ``GradScaler.unscale_``'s own, to the same bits.
    """
    factor = getattr(optimizer, "grad_scale", None)
    if factor is None:
        return
    inverse = factor.double().reciprocal().float()
    for gradients in _by_device_and_dtype(optimizer):
        device = gradients[0].device
        infinite = torch.zeros((), device=device)  # seen before by the scaler itself
        torch._amp_foreach_non_finite_check_and_unscale_(gradients, infinite, inverse.to(device))
    optimizer.grad_scale = None  # type: ignore[attr-defined]


def _by_device_and_dtype(optimizer: Optimizer) -> Iterator[list[Tensor]]:
    found: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for parameter in parameters_of(optimizer):
        if parameter.grad is not None:
            gradient = parameter.grad
            found.setdefault((gradient.device, gradient.dtype), []).append(gradient)
    yield from found.values()
