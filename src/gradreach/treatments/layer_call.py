"""A recurrent layer about to be built: which class, with what; rewritten by treatments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import nn as torch_nn

from gradreach import nn

__all__ = ["TORCH_CLASSES", "Kind", "LayerCall"]

Kind = Literal["rnn", "gru", "lstm"]

TORCH_CLASSES: dict[type, tuple[Kind, bool]] = {
    torch_nn.RNN: ("rnn", False),
    torch_nn.GRU: ("gru", False),
    torch_nn.LSTM: ("lstm", False),
    torch_nn.RNNCell: ("rnn", True),
    torch_nn.GRUCell: ("gru", True),
    torch_nn.LSTMCell: ("lstm", True),
}
# The order of positional arguments in torch.
_LAYER = ("num_layers", "bias", "batch_first", "dropout", "bidirectional", "proj_size")
_POSITIONS: dict[tuple[Kind, bool], tuple[str, ...]] = {
    ("rnn", False): ("num_layers", "nonlinearity", *_LAYER[1:]),
    ("gru", False): _LAYER,
    ("lstm", False): _LAYER,
    ("rnn", True): ("bias", "nonlinearity"),
    ("gru", True): ("bias",),
    ("lstm", True): ("bias",),
}


@dataclass(frozen=True, slots=True)
class LayerCall:
    """The construction of one of torch's six recurrent classes, as it will be carried out.

    Attributes:
        kind: The recurrence. cell: One step (``nn.RNNCell``) or a sequence (``nn.RNN``).
        arguments: What the user gave, by torch's names.
        added: Arguments of gradreach's layers, beyond torch's.
        one_state: An LSTM that takes and gives one state tensor, as the layer it replaces did.

    Example:
        >>> call = LayerCall.of(torch_nn.RNN, (2, 8), {"batch_first": True})
        >>> call.kind, call.arguments
        ('rnn', {'input_size': 2, 'hidden_size': 8, 'batch_first': True})
        >>> call.adding(init="identity").target
        <class 'gradreach.nn.rnn.RNN'>
    """

    kind: Kind
    cell: bool
    arguments: Mapping[str, Any]
    added: Mapping[str, Any] = field(default_factory=dict)
    one_state: bool = False

    @classmethod
    def of(cls, torch_class: type, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> LayerCall:
        """Read a call of torch's class.

        Raises:
            TypeError: It is no call that torch would take.
        """
        kind, cell = TORCH_CLASSES[torch_class]
        names = _names(kind, cell)
        if len(args) > len(names):
            raise TypeError(f"{torch_class.__name__}(): too many arguments")
        given = dict(zip(names, args, strict=False))
        if given.keys() & kwargs.keys() or not kwargs.keys() <= set(names):
            raise TypeError(f"{torch_class.__name__}(): arguments that torch does not take")
        bound = given | dict(kwargs)
        if not {"input_size", "hidden_size"} <= bound.keys():
            raise TypeError(f"{torch_class.__name__}(): sizes are missing")
        return cls(kind, cell, bound)

    @staticmethod
    def names_of(torch_class: type) -> tuple[str, ...]:
        """Return the arguments of one of torch's classes, in the order of their positions."""
        return _names(*TORCH_CLASSES[torch_class])

    @property
    def positions(self) -> tuple[str, ...]:
        """Torch's arguments of this class, in the order of their positions."""
        return _names(self.kind, self.cell)

    @property
    def name(self) -> str:
        """Name of torch's class of this kind."""
        return f"{self.kind.upper()}{'Cell' if self.cell else ''}"

    @property
    def target(self) -> type:
        """The class that is built: torch's own wherever it can do what is asked for."""
        if self.one_state:
            return getattr(nn, f"OneState{self.name}")  # type: ignore[no-any-return]
        plain = self.arguments.get("nonlinearity", "tanh") in ("tanh", "relu")
        return getattr(torch_nn if plain and not self.added else nn, self.name)  # type: ignore[no-any-return]

    def becoming(self, kind: Kind, *, one_state: bool = False) -> LayerCall:
        """Return the call for another recurrence; what only the old one knows is dropped."""
        arguments = {n: v for n, v in self.arguments.items() if n != "nonlinearity"}
        return replace(self, kind=kind, arguments=arguments, one_state=one_state)

    def adding(self, **added: Any) -> LayerCall:
        """Return the call with further arguments of gradreach's layer."""
        return replace(self, added={**self.added, **added})

    def with_arguments(self, **arguments: Any) -> LayerCall:
        """Return the call with arguments of torch's own changed."""
        return replace(self, arguments={**self.arguments, **arguments})

    def build(self, module: torch_nn.Module) -> None:
        """Run the constructor on a fresh instance of torch's class, which changes its class."""
        module.__class__ = self.target
        self.target.__init__(module, **self.arguments, **self.added)  # type: ignore[misc]


def _names(kind: Kind, cell: bool) -> tuple[str, ...]:
    return ("input_size", "hidden_size", *_POSITIONS[kind, cell], "device", "dtype")
