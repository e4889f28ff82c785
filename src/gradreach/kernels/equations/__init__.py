"""The cells' equations: activations recomputed from states, and one step backwards."""

from __future__ import annotations

from gradreach.kernels.equations.cell import Coefficients, Equations
from gradreach.kernels.equations.gru import GRU
from gradreach.kernels.equations.lstm import LSTM
from gradreach.kernels.equations.rnn import RNN

__all__ = ["Coefficients", "Equations", "equations_of"]

_BY_KIND: dict[str, Equations] = {
    "tanh": RNN("tanh"),
    "relu": RNN("relu"),
    "gru": GRU(),
    "lstm": LSTM(),
}


def equations_of(kind: str) -> Equations:
    """Return the equations of a tape's kind.

    Example:
        >>> equations_of("gru").gates
        ('r', 'z')
    """
    return _BY_KIND[kind]
