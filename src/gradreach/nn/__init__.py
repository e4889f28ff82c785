"""Recurrent layers with torch.nn's interface and the remedies for lost gradients built in.

Example:
    >>> import gradreach as gr
    >>> layer = gr.nn.RNN(2, 16, nonlinearity="leaky_relu", init="identity", residual=True)
"""

from __future__ import annotations

from gradreach.nn.connections import EulerStep
from gradreach.nn.convert import convert
from gradreach.nn.gru import GRU, GRUCell
from gradreach.nn.initialization import initialize, set_forget_bias
from gradreach.nn.lstm import LSTM, LSTMCell
from gradreach.nn.one_state import OneStateLSTM, OneStateLSTMCell
from gradreach.nn.rnn import RNN, RNNCell
from gradreach.nn.state_with_cell import StateWithCell

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "EulerStep",
    "GRUCell",
    "LSTMCell",
    "OneStateLSTM",
    "OneStateLSTMCell",
    "RNNCell",
    "StateWithCell",
    "convert",
    "initialize",
    "set_forget_bias",
]
