"""A training that was killed goes on to the same bits; a file that is no checkpoint is refused."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gradreach.runs.files import WriteError
from gradreach.training import Training
from gradreach.training.checkpoint import CheckpointError
from gradreach.training.state_file import state_bytes

# Dropout draws from torch, the batches from NumPy's and Python's own streams.
PROGRAM = """
import sys
sys.path.insert(0, {root!r})
from tests.training.test_checkpoint import save, training

made = training(int(sys.argv[2]))
trained = made.run(checkpoint=sys.argv[1], checkpoint_every=7)
save(made, trained, sys.argv[3])
"""
ROOT = str(Path(__file__).parents[2])


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.drop, self.head = nn.LSTM(2, 8), nn.Dropout(0.2), nn.Linear(8, 1)

    def forward(self, x):
        return self.head(self.drop(self.rnn(x)[0][-1]))


def training(steps: int, hidden: int = 8) -> Training:
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    model = Net() if hidden == 8 else nn.Linear(2, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [20, 60])

    def batches(step: int):
        scale = float(np.random.normal()) + random.random()
        return scale * torch.randn(12, 4, 2)

    return Training(
        model=model, optimizer=optimizer, batches=batches, scheduler=schedule, steps=steps,
        loss=lambda model, batch: (model(batch) - batch.mean((0, 2))[:, None]).square().mean(),
        evaluate=lambda model: {"scale": float(sum(w.sum() for w in model.parameters()))},
        evaluate_every=10, clip=1.0,
    )  # fmt: skip


def save(made, trained, path) -> None:
    torch.save(
        {
            "weights": made.model.state_dict(), "rate": made.scheduler.get_last_lr(),
            "losses": trained.losses.tolist(), "next": torch.rand(3),
            "scores": [(each.step, dict(each.scores)) for each in trained.evaluations],
        },
        path,
    )  # fmt: skip


def bits(path: Path) -> dict:
    found = torch.load(path, weights_only=True)
    return {name: repr(value) for name, value in found.items() if name != "weights"} | {
        name: value.numpy().tobytes() for name, value in found["weights"].items()
    }


def test_run_that_is_taken_up_comes_to_the_same_bits(tmp_path):
    whole = training(40)
    save(whole, whole.run(), tmp_path / "whole")

    training(23).run(checkpoint=tmp_path / "a.pt")  # ends in the middle of an interval
    again = training(40)
    save(again, again.run(checkpoint=tmp_path / "a.pt"), tmp_path / "again")
    # The evaluation at the end of the short run is one more.
    found, meant = bits(tmp_path / "again"), bits(tmp_path / "whole")

    scores = torch.load(tmp_path / "again", weights_only=True)["scores"]
    assert [step for step, _ in scores] == [10, 20, 23, 30, 40]
    assert {**found, "scores": ""} == {**meant, "scores": ""}


def test_finished_run_is_not_trained_again(tmp_path):
    first = training(12).run(checkpoint=tmp_path / "a.pt")
    again = training(12)
    steps: list[int] = []
    again.on_step.append(lambda step, loss: steps.append(step))

    trained = again.run(checkpoint=tmp_path / "a.pt")

    assert not steps
    assert trained.losses.tolist() == first.losses.tolist()
    assert trained.evaluations == first.evaluations


def test_until_is_asked_again_about_what_was_evaluated(tmp_path):
    training(20).run(checkpoint=tmp_path / "a.pt")
    asked: list[int] = []

    def third(evaluation) -> bool:
        asked.append(evaluation.step)
        return len(asked) == 3

    trained = training(60).run(third, checkpoint=tmp_path / "a.pt")

    assert asked == [10, 20, 30]
    assert (trained.stopped, trained.steps) == ("solved", 30)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it cannot be read"),
        (b"PK\x03\x04 half of it", "it cannot be read"),
        ({"weights": torch.zeros(2)}, "it cannot be read"),
        (state_bytes({"gradreach_checkpoint": 9, "parts": {}}), "another kind of training"),
        (state_bytes({"gradreach_checkpoint": 1})[:-1], "it cannot be read"),
    ],
)
def test_file_that_is_no_checkpoint_is_refused(tmp_path, content, words):
    path = tmp_path / "a.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)

    with pytest.raises(CheckpointError, match=words):
        training(5).run(checkpoint=path)


def test_checkpoint_of_another_model_is_refused(tmp_path):
    training(5, hidden=0)
    other = training(5, hidden=0)
    other.loss = lambda model, batch: model(batch).square().mean()
    other.run(checkpoint=tmp_path / "a.pt")

    with pytest.raises(CheckpointError, match="another model or optimizer"):
        training(5).run(checkpoint=tmp_path / "a.pt")
    shorter = training(3, hidden=0)
    with pytest.raises(CheckpointError, match="a run of 5 steps, more than the 3"):
        shorter.run(checkpoint=tmp_path / "a.pt")


def test_batches_that_cannot_be_taken_up_are_refused(tmp_path):
    made = training(5)
    made.batches = [torch.zeros(12, 4, 2)]

    with pytest.raises(TypeError, match="needs batches that are a function of the step number"):
        made.run(checkpoint=tmp_path / "a.pt")
    with pytest.raises(ValueError, match="argument 'checkpoint_every' must be a whole number"):
        training(5).run(checkpoint=tmp_path / "a.pt", checkpoint_every=0)
    (tmp_path / "file").touch()
    with pytest.raises(WriteError):
        training(5).run(checkpoint=tmp_path / "file" / "a.pt")


@pytest.mark.slow
def test_run_killed_at_random_moments_comes_to_the_same_bits(tmp_path):
    steps, chance = 600, random.Random(5)
    program = PROGRAM.format(root=ROOT)
    checkpoint = tmp_path / "a.pt"

    def begun(out: str) -> subprocess.Popen[bytes]:
        path = "none.pt" if out == "whole" else "a.pt"
        return subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / path), str(steps), str(tmp_path / out)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    assert begun("whole").wait(300) == 0
    kills = 0
    while kills < 4:
        driver, known = begun("killed"), _changed(checkpoint)
        while driver.poll() is None and _changed(checkpoint) == known:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.2))
        if driver.poll() is not None:
            break
        driver.kill()
        driver.wait()
        kills += 1
    assert kills >= 2
    assert begun("killed").wait(300) == 0

    assert bits(tmp_path / "killed") == bits(tmp_path / "whole")


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0
