"""Data that was seen before is told from data that was not, and numbers are found in print."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from gradreach.script.data_seen import DataSeen, row_marks
from gradreach.script.printed import Printed


@pytest.fixture
def seen():
    watching = DataSeen()
    watching.start()
    yield watching
    watching.stop()


def train(seen: DataSeen, model: nn.Module, x: torch.Tensor) -> float:
    model(x)
    seen.trained()
    return seen.share[-1]


def test_new_rows_are_new_and_old_ones_known_in_any_order(seen):
    model, x = nn.Linear(3, 1), torch.randn(8, 3)

    assert train(seen, model, x) == 0.0
    assert train(seen, model, torch.randn(8, 3)) == 0.0
    assert train(seen, model, x.flip(0)) == 1.0
    assert train(seen, model, torch.cat([x[:4], torch.randn(4, 3)])) == 0.5


def test_rows_of_a_time_major_layer_are_its_sequences(seen):
    rnn, x = nn.RNN(2, 4), torch.randn(7, 5, 2)  # 5 sequences of 7 steps
    train(seen, rnn, x)

    assert train(seen, rnn, x[:, torch.tensor([3, 1, 0, 4, 2])]) == 1.0


def test_steps_of_a_loop_over_cells_are_one_row_together(seen):
    cell = nn.RNNCell(2, 4)

    def loop(x: torch.Tensor) -> float:
        state = None
        for step in range(x.shape[1]):
            state = cell(x[:, step], state)
        seen.trained()
        return seen.share[-1]

    x = torch.zeros(3, 6, 2)
    x[:, 5] = torch.randn(3, 2)  # they begin alike
    other = x.clone()
    other[:, 5] = torch.randn(3, 2)

    assert [loop(x), loop(other), loop(x)] == [0.0, 0.0, 1.0]


def test_what_is_evaluated_is_held_out_unless_it_was_trained_on(seen):
    model, x = nn.Linear(3, 1), torch.randn(8, 3)
    train(seen, model, x)
    with torch.no_grad():
        model(x)
        again = seen.evaluated()
        model(torch.randn(8, 3))
        new = seen.evaluated()

    assert (again, new) == (False, True)


def test_a_layer_that_sees_a_view_of_the_data_makes_it_no_loop(seen):
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.RNN(1, 4, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.rnn(x.unsqueeze(-1))[0]

    model, x = Model(), torch.randn(8, 5)
    train(seen, model, x)
    with torch.no_grad():
        model(torch.randn(8, 5))
        new = seen.evaluated()
        model(x)
        again = seen.evaluated()

    assert (new, again) == (True, False)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int64, torch.bool])
def test_rows_of_every_type_have_marks(dtype):
    one, other, again = row_marks(torch.tensor([[1, 0, 1], [0, 1, 1], [1, 0, 1]]).to(dtype))

    assert one == again != other


def test_numbers_are_found_in_both_streams_whole_lines_or_not(capsys):
    before = (sys.stdout, sys.stderr)
    with Printed(r"loss[ =](\S+)", lambda: 3) as printed:
        sys.stdout.write("loss 0.")
        sys.stdout.write("5\nepoch 1\rloss=1e-3\r")
        sys.stderr.write("loss nothing\nloss -2,000.5")

    assert [value for _, value in printed.found] == [0.5, 1e-3, -2000.5]
    assert (sys.stdout, sys.stderr) == before
    assert "epoch 1" in capsys.readouterr().out
