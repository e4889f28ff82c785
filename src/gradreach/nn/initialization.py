"""Starting values of a recurrent layer, by name."""

from __future__ import annotations

import math

import torch
from torch import Generator, nn

from gradreach.nn.forget_bias import set_forget_bias
from gradreach.nn.initializers import INITIALIZERS, Initializer
from gradreach.nn.layer_weights import LayerWeights, layer_weights

__all__ = ["Init", "initialize", "set_forget_bias"]

Init = str | tuple[str, float] | Initializer


def initialize(
    module: nn.Module | LayerWeights, init: Init, *, generator: Generator | None = None
) -> None:
    """Give every layer and direction of a recurrent module its starting values, in place.

    At the start of training the product of the step Jacobians is what these weights make it:
    whether anything reaches the distant past is decided here first.

    =========================  ====================================================  ===========
    ``init``                   writes                                                for
    =========================  ====================================================  ===========
    ``"default"``              all weights U(-1/√H, 1/√H), as torch                  all
    ``"identity"``             W_hh = I, biases 0, W_ih N(0, 0.001²): IRNN           rnn
    ``("identity", 0.99)``     W_hh = 0.99 I, the rest likewise;                     rnn
                               ``("scaled_identity", 0.99)`` is the same
    ``"orthogonal"``,          each gate's block of W_hh, times the gain             dense
    ``("orthogonal", 1.2)``
    ``"np-rnn"``               W_hh = (A + I)/λ_max, A = RᵀR/H; biases 0             rnn
    ``("indrnn", steps)``      u ~ U(0, 2^(1/steps))                                 elementwise
    =========================  ====================================================  ===========

    In a stack, ``"identity"`` makes the input weights of the upper layers as small as those of the
    first; each layer then passes on about a thousandth of what it is given.

    Args:
        module: ``nn.RNN/GRU/LSTM``, a cell of theirs, one of ours, or the weights of one layer.
        init: A name, ``(name, number)``, or a function of your own (see `Initializer`). A name
            added to ``INITIALIZERS`` is known everywhere.
        generator: Source of the draws; torch's global one by default.

    Raises:
        TypeError: ``module`` is no recurrent layer, or ``init`` is of no form above.
        ValueError: The name is unknown, or the recipe does not fit the layer; nothing is changed.

    Reference:
        Le, Jaitly & Hinton (2015), arXiv:1504.00941; Saxe, McClelland & Ganguli (2014),
        arXiv:1312.6120; Talathi & Vartak (2015), arXiv:1511.03771; Li et al. (2018),
        arXiv:1803.04831.

    Example:
        >>> rnn = nn.RNN(1, 2, nonlinearity="relu")
        >>> initialize(rnn, ("identity", 0.5))
        >>> rnn.weight_hh_l0.tolist(), rnn.bias_hh_l0.tolist()
        ([[0.5, 0.0], [0.0, 0.5]], [0.0, 0.0])
    """
    initializer, value = _resolved(init)
    every = [module] if isinstance(module, LayerWeights) else layer_weights(module)
    with torch.no_grad():
        for weights in every:
            initializer(weights, value, generator)


def _resolved(init: object) -> tuple[Initializer, float | None]:
    if callable(init):
        return init, None
    name, value = init if isinstance(init, tuple) and len(init) == 2 else (init, None)
    if not isinstance(name, str):
        raise TypeError(
            "initialize: `init` must be a name, (name, number) or a function, but is "
            f"{init!r}; pass one of {_known()}"
        )
    if name not in INITIALIZERS:
        raise ValueError(
            f"initialize: `init` must be one of {_known()}, but is {name!r}; "
            "add your own function to INITIALIZERS, or pass it itself"
        )
    if value is not None and (
        isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)
    ):
        raise ValueError(
            f"initialize: the number beside {name!r} must be finite, but is {value!r}; "
            f'pass ("{name}", 1.0), say'
        )
    return INITIALIZERS[name], value


def _known() -> str:
    return ", ".join(f'"{name}"' for name in INITIALIZERS)
