"""The cells' equations: activations recomputed from states, and one step backwards."""

from __future__ import annotations

from gradreach.kernels.equations.cell import Coefficients, Equations
from gradreach.kernels.equations.extended import Extended
from gradreach.kernels.equations.gru import GRU
from gradreach.kernels.equations.lstm import LSTM
from gradreach.kernels.equations.rnn import RNN
from gradreach.kernels.tape import Tape

__all__ = ["Coefficients", "Equations", "equations_for", "equations_of"]

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


def equations_for(tape: Tape) -> Equations:
    """Return the equations of a tape, those of our own layers too."""
    return equations_of(tape.kind) if tape.extension is None else Extended(tape.extension)
