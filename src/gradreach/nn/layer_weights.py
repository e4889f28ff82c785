"""The weights of one recurrent layer in one direction, under torch's names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

__all__ = ["LayerWeights", "layer_weights"]

KIND_OF_GATES = {1: "rnn", 3: "gru", 4: "lstm"}
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """The tensors of one layer in one direction: what an initialisation writes to.

    Built by `layer_weights` for a module, or by hand for bare tensors.

    Shape:
        weight_ih: ``(G*H, I)``. weight_hh: ``(G*H, H)``, ``(4H, P)`` with a projection, ``(H,)``
        for an elementwise recurrence. bias_ih, bias_hh: ``(G*H,)``. weight_hr: ``(P, H)``.
        G is 1 (rnn), 3 (gru: r, z, n) or 4 (lstm: i, f, g, o).

    Example:
        >>> import torch
        >>> weights = LayerWeights(torch.zeros(9, 2), torch.zeros(9, 3), hidden_size=3)
        >>> weights.kind, [tuple(block.shape) for block in weights.recurrent_blocks()]
        ('gru', [(3, 3), (3, 3), (3, 3)])
    """

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None = None
    bias_hh: Tensor | None = None
    weight_hr: Tensor | None = None
    hidden_size: int = 0
    suffix: str = ""  # "_l0", "_l1_reverse"; "" for a cell

    def __post_init__(self) -> None:
        rows, hidden_size = len(self.weight_hh), self.hidden_size
        if hidden_size < 1 or rows % hidden_size or rows // hidden_size not in KIND_OF_GATES:
            raise ValueError(
                f"LayerWeights: `weight_hh{self.suffix}` must have 1, 3 or 4 times "
                f"`hidden_size` = {hidden_size} rows, but has {rows}; "
                "pass the hidden size of an rnn, gru or lstm"
            )

    @property
    def kind(self) -> str:
        """``"rnn"``, ``"gru"`` or ``"lstm"``, by the number of gates."""
        return KIND_OF_GATES[len(self.weight_hh) // self.hidden_size]

    @property
    def is_elementwise(self) -> bool:
        """Whether each unit sees only its own past (a vector instead of a matrix)."""
        return self.weight_hh.dim() == 1

    def recurrent_blocks(self) -> tuple[Tensor, ...]:
        """Return ``weight_hh`` gate by gate, as views: writing to one writes to the weight."""
        return self.weight_hh.chunk(len(self.weight_hh) // self.hidden_size)

    def present(self) -> Iterator[Tensor]:
        """Yield the tensors that there are, in the order in which torch draws them."""
        for name in NAMES:
            tensor: Tensor | None = getattr(self, name)
            if tensor is not None:
                yield tensor


def layer_weights(module: nn.Module) -> list[LayerWeights]:
    """Return the weights of every layer and direction of a recurrent module.

    Takes ``nn.RNN``, ``nn.GRU``, ``nn.LSTM``, their cells, and whatever names its weights as they
    do (``weight_hh_l0``, ``weight_hh_l0_reverse``, ``weight_hh``) and has a ``hidden_size``.

    Raises:
        TypeError: ``module`` has no recurrent weights under these names.
        ValueError: A weight is computed from others (parametrized, pruned, weight-normed), so
            that writing to it would be undone by the next call.

    Example:
        >>> lstm = nn.LSTM(2, 3, num_layers=2, bidirectional=True)
        >>> [weights.suffix for weights in layer_weights(lstm)]
        ['_l0', '_l0_reverse', '_l1', '_l1_reverse']
    """
    suffixes = list(_suffixes(module))
    hidden_size = getattr(module, "hidden_size", None)
    if not suffixes or not isinstance(hidden_size, int):
        raise TypeError(
            "layer_weights: `module` must be a recurrent layer or cell with torch's parameter "
            f"names, but is {type(module).__name__}; pass the layer itself, not the model around it"
        )
    return [_weights(module, suffix, hidden_size) for suffix in suffixes]


def _suffixes(module: nn.Module) -> Iterator[str]:
    if hasattr(module, "weight_hh"):
        yield ""
    layer = 0
    while hasattr(module, f"weight_hh_l{layer}"):
        yield f"_l{layer}"
        if hasattr(module, f"weight_hh_l{layer}_reverse"):
            yield f"_l{layer}_reverse"
        layer += 1


def _weights(module: nn.Module, suffix: str, hidden_size: int) -> LayerWeights:
    own = dict(module.named_parameters(recurse=False, remove_duplicate=False))
    tensors: dict[str, Tensor | None] = {}
    for name in NAMES:
        tensor = getattr(module, name + suffix, None)
        if tensor is not None and name + suffix not in own:
            raise ValueError(
                f"layer_weights: `{name}{suffix}` of {type(module).__name__} must be a parameter, "
                "but is computed from others (parametrized, pruned or weight-normed); "
                "initialise the layer before that"
            )
        tensors[name] = tensor
    weight_ih, weight_hh = own[f"weight_ih{suffix}"], own[f"weight_hh{suffix}"]
    return LayerWeights(
        weight_ih,
        weight_hh,
        tensors["bias_ih"],
        tensors["bias_hh"],
        tensors["weight_hr"],
        hidden_size=hidden_size,
        suffix=suffix,
    )
