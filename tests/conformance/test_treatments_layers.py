"""A treated script is the same script with the line edited by hand, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conformance.treated_scripts import run, source

from gradreach.treatments import treatment_from
from gradreach.treatments.edit import edited

GR = "__import__('gradreach').nn."

# Written by hand: label, the user's line, the line that a person would write instead.
TREATED = [
    ("gating(GRU)", "nn.RNN(3, 5)", "nn.GRU(3, 5)"),
    ("gating(GRU)", 'RNN(3, 5, 2, "relu")', "nn.GRU(3, 5, 2)"),
    ("gating(GRU)", "nn.RNNCell(3, 5, nonlinearity='relu')", "nn.GRUCell(3, 5)"),
    ("gating(LSTM)", "nn.RNN(3, 5)", GR + "OneStateLSTM(3, 5)"),
    ("gating(LSTM)", "nn.GRU(3, 5)", GR + "OneStateLSTM(3, 5)"),
    ("gating(LSTM)", "nn.RNNCell(3, 5)", "nn.LSTMCell(3, 5)"),
    ("gating(LSTM)", "nn.GRUCell(3, 5)", GR + "OneStateLSTMCell(3, 5)"),
    ("activation(relu)", "nn.RNN(3, 5)", 'nn.RNN(3, 5, nonlinearity="relu")'),
    ("activation(relu)", "nn.RNNCell(3, 5)", 'nn.RNNCell(3, 5, nonlinearity="relu")'),
    ("activation(relu)", 'nn.RNN(3, 5, 1, "tanh")', 'nn.RNN(3, 5, 1, "relu")'),
    ("activation(tanh)", 'nn.RNN(3, 5, nonlinearity="relu")', "nn.RNN(3, 5)"),
    ("activation(leaky_relu)", "nn.RNN(3, 5)", GR + 'RNN(3, 5, nonlinearity="leaky_relu")'),
    ("activation(leaky_relu, slope=0.2)", "nn.RNNCell(3, 5)",
     GR + 'RNNCell(3, 5, nonlinearity="leaky_relu", slope=0.2)'),
    ("activation(elu)", "nn.RNN(3, 5)", GR + 'RNN(3, 5, nonlinearity="elu")'),
    ("activation(modrelu)", "nn.RNN(3, 5)", GR + 'RNN(3, 5, nonlinearity="modrelu")'),
    *[
        ("initialization(orthogonal)", f"nn.{kind}(3, 5)", f'{GR}{kind}(3, 5, init="orthogonal")')
        for kind in ("RNN", "GRU", "LSTM", "RNNCell", "GRUCell", "LSTMCell")
    ],
    ("initialization(orthogonal, scale=0.9)", "nn.RNN(3, 5)",
     GR + 'RNN(3, 5, init=("orthogonal", 0.9))'),
    ("initialization(identity)", "nn.RNN(3, 5)", GR + 'RNN(3, 5, init="identity")'),
    ("initialization(identity, scale=0.99)", "nn.RNNCell(3, 5)",
     GR + 'RNNCell(3, 5, init=("identity", 0.99))'),
    ("initialization(np-rnn)", "nn.RNN(3, 5)", GR + 'RNN(3, 5, init="np-rnn")'),
    *[
        ("initialization(chrono, max_lag=12)", f"nn.{kind}(3, 5)",
         f'{GR}{kind}(3, 5, forget_bias="chrono", max_lag=12)')
        for kind in ("GRU", "LSTM", "GRUCell", "LSTMCell")
    ],
    ("initialization(forget_bias=1.0)", "nn.LSTM(3, 5)", GR + "LSTM(3, 5, forget_bias=1.0)"),
    *[
        ("skip(lag=4)", f"nn.{kind}(3, 5)", f"{GR}{kind}(3, 5, skip=4)")
        for kind in ("RNN", "GRU", "LSTM")
    ],
    ("skip(lag=3, weight='learned')", "nn.RNN(3, 5)",
     GR + 'RNN(3, 5, skip=3, skip_weight="learned")'),
    ("residual()", "nn.RNN(3, 5)", GR + "RNN(3, 5, residual=True)"),
    ("residual(alpha=0.1, beta=0.9)", "nn.RNNCell(3, 5)",
     GR + "RNNCell(3, 5, residual=(0.1, 0.9))"),
    ("residual(learned)", "nn.RNN(3, 5)", GR + 'RNN(3, 5, residual="learned")'),
    ("residual(epsilon=0.01)", "nn.RNN(3, 5)",
     GR + "RNN(3, 5, residual=" + GR + "EulerStep(0.01, gamma=0.01))"),
    ("activation(relu) + initialization(identity)", "nn.RNN(3, 5)",
     GR + 'RNN(3, 5, nonlinearity="relu", init="identity")'),
    ("gating(LSTM) + initialization(chrono, max_lag=12)", "nn.RNN(3, 5)",
     GR + 'LSTM(3, 5, forget_bias="chrono", max_lag=12)'),
    ("residual(learned) + activation(relu)", "nn.RNN(3, 5)",
     GR + 'RNN(3, 5, nonlinearity="relu", residual="learned")'),
]  # fmt: skip


@pytest.mark.parametrize(("label", "line", "by_hand"), TREATED)
def test_treated_script_has_the_bits_of_the_line_edited_by_hand_and_of_its_own_edits(
    tmp_path: Path, label: str, line: str, by_hand: str
) -> None:
    cell = "Cell" in line
    text = source(line, cell=cell)
    treatment = treatment_from(label)

    treated = run(text, tmp_path / "train.py", treatment)
    patched = edited(text, treatment.edits(treated.sites))

    assert treated.same_bits(run(source(by_hand, cell=cell), tmp_path / "hand.py"))
    assert "treated(" not in patched
    assert run(patched, tmp_path / "patched.py").same_bits(treated)


def test_scripts_that_are_treated_differently_end_differently(tmp_path: Path) -> None:
    text = source("nn.RNN(3, 5)", cell=False)
    labels = ("initialization(orthogonal)", "initialization(np-rnn)", "residual()", "skip(lag=4)")

    runs = [run(text, tmp_path / "train.py")]
    runs += [run(text, tmp_path / "train.py", treatment_from(label)) for label in labels]

    assert len({tuple(each.losses) for each in runs}) == len(runs)
