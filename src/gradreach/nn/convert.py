"""Swaps torch's recurrent layers inside a model for ours, which keep their weights."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import torch
from torch import nn
from torch.nn.modules.rnn import RNNBase, RNNCellBase
from torch.nn.utils.parametrize import is_parametrized

from gradreach.nn.forget_bias import set_forget_bias
from gradreach.nn.gru import GRU, GRUCell
from gradreach.nn.initialization import initialize
from gradreach.nn.initializers import FOR_PLAIN_RNN
from gradreach.nn.lstm import LSTM, LSTMCell
from gradreach.nn.remedies import Remedied
from gradreach.nn.rnn import RNN, RNNCell

__all__ = ["convert", "why_left"]

OURS: dict[type[nn.Module], type[nn.Module]] = {
    nn.RNN: RNN,
    nn.GRU: GRU,
    nn.LSTM: LSTM,
    nn.RNNCell: RNNCell,
    nn.GRUCell: GRUCell,
    nn.LSTMCell: LSTMCell,
}
PLAIN = (nn.RNN, nn.RNNCell)
# What a layer was built with and keeps; read from it by these names.
CELL_OPTIONS = ("input_size", "hidden_size", "bias")
LAYER_OPTIONS = (*CELL_OPTIONS, "num_layers", "batch_first", "dropout", "bidirectional")
PASSED_ON_HOOKS = (  # the dictionaries themselves, so that the users' handles still remove them
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_is_full_backward_hook",
)
BOUND_HOOKS = (  # these may hold the old layer itself, so that they cannot be handed on
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)


def convert(module: nn.Module, **remedies: Any) -> nn.Module:
    """Swap every ``nn.RNN``, ``nn.GRU``, ``nn.LSTM`` and cell in a model for ours.

    Without remedies the model computes what it did. The parameters are the same objects, so an
    optimizer built before goes on working; names, device, dtype, mode, hooks of the forward and
    backward pass, and layers used in several places stay as they were.

    ``remedies`` are arguments of our layers (``residual``, ``skip``, ``forget_bias``, …). Each is
    passed to the layers whose class knows it; in a model with plain and gated layers,
    ``residual``, ``nonlinearity`` and the starts of a plain rnn (``"identity"``, ``"np-rnn"``) go
    to the plain ones only. ``init`` and ``forget_bias`` rewrite the weights they are about; all
    others keep them. Parameters that a remedy *adds* are new: an optimizer built before does not
    know them.

    A layer that cannot be swapped without losing something (`why_left`) stays as it is and is
    named in one warning. A reference kept outside the tree of modules, in a plain list say, still
    leads to the old layer, which shares the weights but knows no remedy.

    Args:
        module: The model, changed in place; or a recurrent layer itself.
        **remedies: Arguments of `RNN`, `GRU`, `LSTM` and their cells beyond torch's own.

    Returns:
        ``module``; where it is itself a recurrent layer, the layer that takes its place.

    Raises:
        TypeError: A remedy that none of the layers knows, or an argument that convert keeps.
        ValueError: There is nothing to convert, or a layer refuses a remedy. Nothing is changed.

    Example:
        >>> model = nn.Sequential(nn.LSTM(2, 3, bidirectional=True))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> type(convert(model)[0]).__module__
        'gradreach.nn.lstm'
        >>> optimizer.param_groups[0]["params"][0] is model[0].weight_ih_l0
        True
    """
    found, left = _recurrent(module)
    _check(module, found, left, remedies)
    meant = {layer: _fitting(layer, remedies, found) for layer in found}
    twins = {layer: _twin(layer, path, meant[layer]) for layer, path in found.items()}
    for layer, twin in twins.items():
        _hand_over(layer, twin)
        _rewrite(twin, meant[layer])
    for parent in list(module.modules()):
        for name, child in list(parent._modules.items()):
            if child in twins:
                setattr(parent, name, twins[child])
    if left:
        warnings.warn(f"convert left as they were: {_told(left)}", UserWarning, stacklevel=2)
    return twins.get(module, module)


def why_left(layer: nn.Module) -> str | None:
    """Say why `convert` leaves a recurrent layer as it is; None where it swaps it.

    Example:
        >>> why_left(nn.GRU(2, 3)) is None
        True
        >>> class Mine(nn.GRU): ...
        >>> why_left(Mine(2, 3))
        'of class Mine, whose own code would be lost'
    """
    if isinstance(layer, torch.jit.ScriptModule):
        return "scripted"
    if is_parametrized(layer):
        return "parametrized: its weights are computed by modules of their own"
    if type(layer) not in OURS:
        return f"of class {type(layer).__name__}, whose own code would be lost"
    if "forward" in vars(layer):
        return "its forward was replaced on the instance"
    own = {name for name, tensor in layer._parameters.items() if tensor is not None}
    if own != _expected_names(layer) or layer._buffers or layer._modules:
        return "parameters, buffers or modules were added or replaced (pruning, weight norm)"
    if any(getattr(layer, hooks) for hooks in BOUND_HOOKS):
        return "hooks on its state dict, which may hold the layer itself"
    return None


def _expected_names(layer: nn.Module) -> set[str]:
    if isinstance(layer, RNNBase):
        return {name for names in layer._all_weights for name in names}
    names = {"weight_ih", "weight_hh"}
    return names | {"bias_ih", "bias_hh"} if layer.bias else names


def _recurrent(module: nn.Module) -> tuple[dict[nn.Module, str], dict[str, str]]:
    """Return the layers to swap with their paths, and the paths of the others with reasons."""
    found: dict[nn.Module, str] = {}
    left: dict[str, str] = {}
    for path, layer in module.named_modules():
        scripted = isinstance(layer, torch.jit.ScriptModule)
        if scripted and layer.original_name not in {torchs.__name__ for torchs in OURS}:
            continue
        if not (scripted or isinstance(layer, RNNBase | RNNCellBase)) or _is_ours(layer):
            continue
        reason = why_left(layer)
        if reason is None:
            found[layer] = path
        else:
            left[path or "the module itself"] = reason
    return found, left


def _is_ours(layer: nn.Module) -> bool:
    return isinstance(layer, tuple(OURS.values()))


def _check(
    module: nn.Module,
    found: dict[nn.Module, str],
    left: dict[str, str],
    remedies: dict[str, Any],
) -> None:
    kept = {*LAYER_OPTIONS, "proj_size", "device", "dtype"} & remedies.keys()
    if kept:
        raise TypeError(
            f"convert: `{min(kept)}` must stay what the layer was built with, but was given; "
            "leave it out"
        )
    if not found and (left or remedies or not any(map(_is_ours, module.modules()))):
        raise ValueError(
            "convert: `module` must hold a recurrent layer of torch.nn, but "
            f"{type(module).__name__} holds none that can be swapped"
            f"{f' ({_told(left)})' if left else ''}; pass the model before it is wrapped or changed"
        )
    known = {name for layer in found for name in _known(layer)}
    unknown = remedies.keys() - known
    if found and unknown:
        kinds = ", ".join(sorted({type(layer).__name__ for layer in found}))
        raise TypeError(
            f"convert: `{min(unknown)}` must be known to one of the layers found ({kinds}), but "
            f"none takes it; they know {', '.join(sorted(known))}"
        )


def _told(left: dict[str, str]) -> str:
    return "; ".join(f"{path}: {reason}" for path, reason in left.items())


def _known(layer: nn.Module) -> set[str]:
    """Return the remedies that the class taking this layer's place knows."""
    parameters = inspect.signature(OURS[type(layer)]).parameters
    return parameters.keys() - {*LAYER_OPTIONS, "proj_size", "device", "dtype"}


def _fitting(
    layer: nn.Module, remedies: dict[str, Any], found: dict[nn.Module, str]
) -> dict[str, Any]:
    """Choose the remedies of one layer among those for the model."""
    fitting = {name: value for name, value in remedies.items() if name in _known(layer)}
    # Where there are gated layers only, their own refusal says why it makes no sense there.
    if not isinstance(layer, PLAIN) and any(isinstance(other, PLAIN) for other in found):
        for name in ("residual", "nonlinearity", "slope"):
            fitting.pop(name, None)
        init = fitting.get("init")
        if (init[0] if isinstance(init, tuple) and init else init) in FOR_PLAIN_RNN:
            del fitting["init"]
    return fitting


def _twin(layer: nn.Module, path: str, remedies: dict[str, Any]) -> nn.Module:
    names = LAYER_OPTIONS if isinstance(layer, RNNBase) else CELL_OPTIONS
    options = {name: getattr(layer, name) for name in names}
    if isinstance(layer, PLAIN):
        options["nonlinearity"] = layer.nonlinearity
    if isinstance(layer, nn.LSTM):
        options["proj_size"] = layer.proj_size
    options |= remedies
    like = next(layer.parameters())
    devices = [like.device] if like.is_cuda else []
    try:
        # What is drawn here is thrown away: the user's random stream shall not notice.
        with torch.random.fork_rng(devices=devices), warnings.catch_warnings():
            # torch said it when the user built the layer.
            warnings.filterwarnings("ignore", message="dropout option adds dropout")
            # Said of the weights drawn here; those of the user are asked in `_rewrite`.
            warnings.filterwarnings("ignore", message=".*forward Euler step is not stable")
            twin = OURS[type(layer)](**options, device=like.device, dtype=like.dtype)
    except (TypeError, ValueError) as error:
        error.add_note(f"raised by convert for the layer {path or 'given'!r}; nothing was changed")
        raise
    return twin


def _hand_over(layer: nn.Module, twin: nn.Module) -> None:
    """Give the twin the layer's own parameters, mode, hooks and what the user hung on it."""
    for name, parameter in layer.named_parameters(recurse=False, remove_duplicate=False):
        setattr(twin, name, parameter)
    for hooks in PASSED_ON_HOOKS:
        setattr(twin, hooks, getattr(layer, hooks))
    plain = vars(type(layer)(1, 1, device="meta"))
    for name, value in vars(layer).items():
        if name not in plain:
            setattr(twin, name, value)
    twin.train(layer.training)


def _rewrite(twin: nn.Module, remedies: dict[str, Any]) -> None:
    """Write the starting values that were asked for into the user's own parameters."""
    if remedies.get("init") is not None:
        initialize(twin, remedies["init"])
    if remedies.get("forget_bias") is not None:
        set_forget_bias(twin, remedies["forget_bias"], remedies.get("max_lag"))
    if isinstance(twin, Remedied):
        twin._warn_of_growth()  # now with the weights that count
