"""`gradreach train`: the task, the number it is judged by, the findings, and one JSON object."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from gradreach.cli import main
from gradreach.cli import train as _train  # noqa: F401  (the command's module, for its lists)
from gradreach.runs.run_record import read_run
from gradreach.tasks.catalogue import TASKS
from gradreach.training.task_training import CELLS, OPTIMIZERS

train = sys.modules["gradreach.cli.train"]
QUICK = ["first_bit", "--length", "12", "--hidden", "8", "--steps", "40", "--test", "200"]


def invoke(*arguments):
    return CliRunner().invoke(main, ["train", *map(str, arguments)])


def test_lists_of_the_help_are_those_of_the_library():
    assert tuple(TASKS) == train.TASKS
    assert tuple(CELLS) == train.CELLS and tuple(OPTIMIZERS) == train.OPTIMIZERS
    help_text = " ".join(invoke("--help").output.split())
    assert all(name in help_text for name in TASKS)


def test_json_holds_what_the_training_came_to(tmp_path):
    result = invoke(*QUICK, "--cell", "rnn", "--seed", 3, "--run", tmp_path / "r", "--json")

    told = json.loads(result.stdout)
    assert told["task"]["name"] == "first_bit" and told["task"]["needs_lag"] == 11
    assert told["steps"] == 40 and told["curve"][-1]["step"] == 40
    assert told["scores"]["error_rate"] == told["curve"][-1]["error_rate"]
    assert told["exit_code"] == result.exit_code
    assert (tmp_path / "r" / "report.html").read_text("utf-8").startswith("<!doctype html>")
    record = read_run(tmp_path / "r")
    assert record.history is not None and len(record.history) == 40
    assert record.history.needs_lag == 11


def test_same_seed_gives_the_same_scores(tmp_path):
    first, again, other = (
        json.loads(invoke(*QUICK, "--seed", seed, "--run", tmp_path / name, "--json").stdout)
        for name, seed in [("a", 1), ("b", 1), ("c", 2)]
    )

    assert first["curve"] == again["curve"] != other["curve"]


def test_solved_task_ends_early_and_says_when(tmp_path):
    result = invoke("random_permutation", "--length", 6, "--cell", "gru", "--lr", 0.02, "--steps",
                    400, "--stop-when-solved", "--run", tmp_path / "r", "--json")  # fmt: skip

    told = json.loads(result.stdout)
    assert told["solved"] is True and told["stopped"] == "solved"
    assert told["solved_at"] == told["steps"] < 400
    assert [each["error_rate"] <= 0.01 for each in told["curve"][-2:]] == [True, True]


def test_blind_network_is_told_with_the_metric_and_the_baseline(tmp_path):
    result = invoke("adding", "--length", 40, "--cell", "rnn", "--hidden", 16, "--steps", 60,
                    "--test", 200, "--run", tmp_path / "r")  # fmt: skip

    text = " ".join(result.stdout.split())
    assert result.exit_code == 1
    assert "0.1667 without memory; not solved (mse ≤ 0.001667)" in text
    assert "error: vanishing-gradient" in text and "your task needs 39 steps" in text
    assert f"Report: {tmp_path / 'r' / 'report.html'}" in result.stdout
    assert max(map(len, result.stdout.splitlines()[:-1])) <= 80


def test_remedies_reach_the_layer(tmp_path):
    result = invoke(*QUICK, "--cell", "rnn", "--activation", "relu", "--init", "identity", "--skip",
                    3, "--residual", "--clip", 1, "--run", tmp_path / "r", "--json")  # fmt: skip

    options = json.loads(result.stdout)["options"]
    assert options["remedies"] == {
        "nonlinearity": "relu", "init": "identity", "skip": [3], "residual": True,
    }  # fmt: skip
    assert options["clip"] == 1.0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["adding", "--cell", "rnn", "--forget-bias", "2"], "--forget-bias belongs to gates"),
        (["adding", "--length", "1"], "'steps' must be a whole number of at least 2"),
        (["pixel_digits", "--length", "9"], "can only be 64"),
        (["adding", "--init", "wonderful"], "wonderful"),
        (["adding", "--forget-bias", "open"], "'open' is not a valid float"),
        (["adding", "--lr", "0"], "--lr"),
        (["summing"], "'summing' is not one of"),
    ],
)
def test_what_does_not_fit_is_a_usage_error(arguments, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke(*arguments)

    assert result.exit_code == 2
    assert says in " ".join(result.stderr.split())


def test_run_folder_that_is_taken_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    result = invoke(*QUICK, "--run", tmp_path)

    assert result.exit_code == 2 and "not empty" in result.stderr


@pytest.mark.slow  # three interpreters that import torch
def test_two_processes_train_the_same_network_as_one(tmp_path):
    """Real torchrun, gloo: the mean over two halves is the mean, up to the order of the sum."""
    pytest.importorskip("torch.distributed")
    alone = json.loads(invoke(*QUICK, "--run", tmp_path / "one", "--json").stdout)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
        "-m", "gradreach", "train", *QUICK, "--run-folder", str(tmp_path / "two"), "--json",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}

    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=environment, check=False
    )

    assert done.returncode == 0, done.stderr
    together = json.loads(done.stdout)  # one object: the first process speaks for both
    assert together["processes"] == 2
    assert [each["step"] for each in together["curve"]] == [e["step"] for e in alone["curve"]]
    # The last bits of 40 sums taken in another order: the share of wrong answers of 200 may move
    # by one or two.
    for mine, theirs in zip(alone["curve"], together["curve"], strict=True):
        assert abs(mine["error_rate"] - theirs["error_rate"]) <= 0.01
    record, single = read_run(tmp_path / "two"), read_run(tmp_path / "one")
    assert record.history is not None and single.history is not None
    ours, theirs = single.history["gradient_norm"], record.history["gradient_norm"]
    assert theirs == pytest.approx(ours, rel=1e-3)
