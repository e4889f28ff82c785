"""What a training leaves, to be compared bit for bit."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import optimizer as torch_optimizer

MODULES: Any = torch.nn.modules.module
HOOKS = {
    "_global_forward_hooks": MODULES,
    "_global_forward_pre_hooks": MODULES,
    "_global_backward_hooks": MODULES,
    "_global_backward_pre_hooks": MODULES,
    "_global_optimizer_pre_hooks": torch_optimizer,
    "_global_optimizer_post_hooks": torch_optimizer,
}


CLIP: Any = sys.modules["torch.nn.utils.clip_grad"]
FUNCTIONS = {
    name: (owner, getattr(owner, name))
    for owner, names in (
        (torch.autograd, ("backward",)),
        (CLIP, ("_clip_grads_with_norm_", "_group_tensors_by_device_and_dtype")),
        (torch.amp.GradScaler, ("scale", "unscale_", "step", "update")),
        (MODULES, ("_has_any_global_hook",)),
    )
    for name in names
}
"""What is replaced while a watch runs, as it was before any did."""


@dataclass(frozen=True)
class Bits:
    """Hashes of weights, gradients, optimizer state and random stream."""

    weights: str
    gradients: str
    state: str
    random: str

    @classmethod
    def of(cls, model: nn.Module, *optimizers: torch.optim.Optimizer) -> Bits:
        """Take them after a training."""
        states = [optimizer.state_dict() for optimizer in optimizers]
        return cls(
            _hash([model.state_dict()]),
            _hash([[p.grad for p in model.parameters()]]),
            _hash(states),
            _hash([torch.get_rng_state()]),
        )

    @staticmethod
    def hooks() -> list[str]:
        """Name what there is of global hooks, torch's functions that are replaced, and modes."""
        left = [name for name, owner in HOOKS.items() if getattr(owner, name)]
        left += [
            name for name, (owner, own) in FUNCTIONS.items() if getattr(owner, name) is not own
        ]
        left += ["mode"] * torch._C._len_torch_function_stack()
        return left


def _hash(values: Any) -> str:
    digest = hashlib.sha256()
    _feed(digest, values)
    return digest.hexdigest()[:16]


def _feed(digest: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        digest.update(str((value.dtype, tuple(value.shape))).encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    elif isinstance(value, dict):
        for key in value:
            digest.update(repr(key).encode())
            _feed(digest, value[key])
    elif isinstance(value, list | tuple):
        for each in value:
            _feed(digest, each)
    else:
        digest.update(repr(value).encode())
