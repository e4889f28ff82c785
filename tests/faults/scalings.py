"""Four changes that leave every ratio along time as it is, so that no verdict may change."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from tests.faults.case import Trial
from torch import Tensor, nn

__all__ = ["SCALINGS", "widened"]

COPIES = 8
RECURRENT = (nn.RNN, nn.GRU, nn.LSTM, nn.RNNCell, nn.GRUCell, nn.LSTMCell)


def scaled_loss(trial: Trial, factor: float) -> Trial:
    return replace(trial, loss_scale=trial.loss_scale * factor)


def repeated_batch(trial: Trial) -> Trial:
    batch = tuple(part.repeat(COPIES, *[1] * (part.dim() - 1)) for part in trial.batch)
    target = trial.target.repeat(COPIES, *[1] * (trial.target.dim() - 1))
    return replace(trial, batch=batch, target=target)


def in_float64(trial: Trial) -> Trial:
    return replace(
        trial,
        model=copy.deepcopy(trial.model).double(),
        batch=tuple(part.double() if part.is_floating_point() else part for part in trial.batch),
        target=trial.target.double(),
    )


def widened_trial(trial: Trial) -> Trial:
    return replace(trial, model=widened(trial.model))


def widened(model: nn.Module, copies: int = COPIES) -> nn.Module:
    """Return the model with every recurrent layer made of independent copies of itself.

    W_hh becomes kron(I, W_hh) gate by gate, the first layer's input weights and all biases are
    repeated, and the readout averages over the copies: the answer is the same.
    """
    model = copy.deepcopy(model)
    hidden = next(int(part.hidden_size) for part in model.children() if isinstance(part, RECURRENT))
    for name, module in list(model.named_children()):
        if isinstance(module, RECURRENT):
            setattr(model, name, _wider(module, copies))
        elif name == "readout":
            weight = module.weight.detach()
            # One column block for each direction of the layer below.
            blocks = weight.split(hidden, dim=1)
            weight = torch.cat([block.repeat(1, copies) / copies for block in blocks], dim=1)
            wide = nn.Linear(weight.shape[1], weight.shape[0])
            with torch.no_grad():
                wide.weight.copy_(weight)
                wide.bias.copy_(module.bias)
            setattr(model, name, wide.to(weight.dtype))
    return model


def _wider(module: nn.Module, copies: int) -> nn.Module:
    small = int(module.hidden_size)
    shape = {"input_size": module.input_size, "hidden_size": small * copies}
    if isinstance(module, nn.RNN | nn.RNNCell):
        shape["nonlinearity"] = module.nonlinearity
    if isinstance(module, nn.RNNBase):
        shape |= {"num_layers": module.num_layers, "bidirectional": module.bidirectional,
                  "batch_first": module.batch_first}  # fmt: skip
    wide = type(module)(**shape)
    weights = dict(module.named_parameters())
    with torch.no_grad():
        for name, parameter in wide.named_parameters():
            parameter.copy_(_wide_weight(name, weights[name], small, module.input_size, copies))
    return wide.to(next(module.parameters()).dtype)


def _wide_weight(name: str, weight: Tensor, hidden: int, inputs: int, copies: int) -> Tensor:
    gates = weight.split(hidden)
    if "bias" in name:
        return torch.cat([gate.repeat(copies) for gate in gates])
    first_layer = "weight_ih" in name and not (set("123456789") & set(name))
    assert not first_layer or weight.shape[1] == inputs
    if first_layer:
        return torch.cat([gate.repeat(copies, 1) for gate in gates])
    # A layer above a bidirectional one reads (forward, backward), each made of copies.
    halves = [torch.cat([torch.kron(torch.eye(copies, dtype=part.dtype), part)
                         for part in gate.split(hidden, dim=1)], dim=1)
              for gate in gates]  # fmt: skip
    return torch.cat(halves)


SCALINGS: dict[str, Callable[[Trial], Trial]] = {
    "as it is": lambda trial: trial,
    **{f"loss × {factor:g}": partial(scaled_loss, factor=factor)
       for factor in (1e-6, 1e-3, 1e3, 1e6)},
    "batch × 8": repeated_batch,
    "float64": in_float64,
    "hidden × 8": widened_trial,
}  # fmt: skip
