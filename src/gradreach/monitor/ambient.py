"""What torch computes by, beside the numbers it is given: grad mode, autocast, default dtype."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Ambient", "autocast_devices", "kept_ambient", "random_streams", "set_random_streams"]


class Ambient(NamedTuple):
    """The state in which a call was made.

    Args:
        grad: Whether gradients were recorded: torch's LSTM takes another kernel where not.
        autocast: For each device type asked for, whether autocast was on, and to what dtype.
        default: The default dtype.

    Example:
        >>> with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        ...     Ambient.now(("cpu",))
        Ambient(grad=False, autocast=((True, torch.bfloat16),), default=torch.float32)
    """

    grad: bool
    autocast: tuple[tuple[bool, torch.dtype], ...]
    default: torch.dtype

    @classmethod
    def now(cls, devices: tuple[str, ...]) -> Ambient:
        """Return the present one."""
        autocast = tuple(
            (torch.is_autocast_enabled(device), torch.get_autocast_dtype(device))
            for device in devices
        )
        return cls(torch.is_grad_enabled(), autocast, torch.get_default_dtype())

    def set(self, devices: tuple[str, ...]) -> None:
        """Make it the present one; whoever does so puts back what was (:func:`kept_ambient`)."""
        torch._C._set_grad_enabled(self.grad)
        for device, (enabled, dtype) in zip(devices, self.autocast, strict=True):
            torch.set_autocast_enabled(device, enabled)
            torch.set_autocast_dtype(device, dtype)
        if torch.get_default_dtype() is not self.default:
            torch.set_default_dtype(self.default)


def autocast_devices() -> tuple[str, ...]:
    """Return the device types that tensors of this process can be on."""
    return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


@contextmanager
def kept_ambient(devices: tuple[str, ...]) -> Iterator[None]:
    """Put back, at the end, what torch computes by now, and its random streams.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> with kept_ambient(("cpu",)):
        ...     first = torch.rand(1)
        >>> torch.equal(first, torch.rand(1))
        True
    """
    before, streams = Ambient.now(devices), random_streams()
    # Not to be filled with casts of ours: a cast is looked up by its source as long as that lives.
    cached = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(cached)
        before.set(devices)
        set_random_streams(streams)


def random_streams() -> list[Tensor]:
    """Return the states of torch's own random streams, that of the CPU first."""
    on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    return [torch.get_rng_state(), *on_gpus]


def set_random_streams(states: list[Tensor]) -> None:
    """Undo what was drawn since :func:`random_streams`."""
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state_all(states[1:])
