"""LSTM gates set by hand: torch adds two biases, so one of them is set and one is zeroed."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["forget_bias", "open_forget_gate"]


def forget_bias(module: nn.Module, value: float) -> None:
    """Set the forget gate's bias of an LSTM or of its cell, all layers; gate order i, f, g, o."""
    size = int(module.hidden_size)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.startswith("bias_ih"):
                parameter[size : 2 * size] = value
            elif name.startswith("bias_hh"):
                parameter[size : 2 * size] = 0.0


def open_forget_gate(module: nn.Module) -> None:
    """Let 95 % of the memory pass each step: σ(3) = 0.953, so 1 % is left after 95 steps."""
    forget_bias(module, 3.0)
