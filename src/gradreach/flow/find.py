"""Finds the recurrent modules of a model."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from gradreach.flow.sources.fused import why_blind
from gradreach.kernels.tape import ReplayableCell
from gradreach.records import BlindSpot

__all__ = ["Found", "class_name", "find_recurrent"]

RECURRENT_NAMES = ("RNN", "GRU", "LSTM")


class Found:
    """Recurrent modules to watch, by module; and those that cannot be measured, with reasons."""

    def __init__(self) -> None:
        self.watched: dict[nn.Module, str] = {}
        self.blind: list[BlindSpot] = []


def class_name(module: nn.Module) -> str:
    """Return the name of a module's class, of torch's own where it is derived from one.

    Example:
        >>> class Mine(nn.GRU): ...
        >>> class_name(Mine(1, 1))
        'GRU'
    """
    for base in type(module).__mro__:
        if base.__module__ == "torch.nn.modules.rnn":
            return base.__name__
    return type(module).__name__


def find_recurrent(model: nn.Module) -> Found:
    """Find ``nn.RNN/GRU/LSTM`` and their cells anywhere in a model.

    The model itself is called by its class's name in lower case where it is recurrent.

    Example:
        >>> found = find_recurrent(nn.Sequential(nn.Linear(2, 3), nn.GRU(3, 4)))
        >>> list(found.watched.values())
        ['1']
    """
    found = Found()
    wrapping = _wrapping(model)
    for path, module in model.named_modules():
        kind = class_name(module)
        name = f"{path}.".removeprefix(wrapping).removesuffix(".") or kind.lower()
        if isinstance(module, torch.jit.ScriptModule):
            original = getattr(module, "original_name", "")
            name = name if path else original.lower()
            if original.removesuffix("Cell") in RECURRENT_NAMES:
                found.blind.append(BlindSpot(name, original, "scripted modules run no hooks"))
            continue
        if isinstance(module, nn.RNNBase):
            reason = why_blind(module)
        elif isinstance(module, nn.RNNCell | nn.GRUCell | nn.LSTMCell):
            reason = None
            if isinstance(module, ReplayableCell):
                reason = module.why_not_replayable()
            elif is_parametrized(module):
                reason = "reading a parametrized cell's weights would run the parametrization again"
        else:
            continue
        if reason is None:
            found.watched[module] = name
        else:
            found.blind.append(BlindSpot(name, kind, reason))
    return found


def _wrapping(model: nn.Module) -> str:
    """Return the path through DataParallel, torch.compile and the like to the user's own model.

    Only where nothing stands beside it: a model that calls a part of itself ``module`` has other
    parts, whose names must stay apart from those inside it.
    """
    path = ""
    while [name for name, _ in model.named_children()] in (["module"], ["_orig_mod"]):
        ((name, model),) = model.named_children()
        path += f"{name}."
    return path
