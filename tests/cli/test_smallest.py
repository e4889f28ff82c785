"""`gradreach demo smallest`: fits a terminal, says what is true, and the same in JSON."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest
from click.testing import CliRunner

from gradreach.cli import main
from gradreach.cli.smallest import demo_as_text, run_demo
from gradreach.flow.scalar_bptt import ScalarWeights, bptt, unroll

QUICK = ["--seed", "0", "--epochs", "200"]


def invoke(*arguments):
    # Through the group, as a user: a command keeps the help option of the first context it meets.
    return CliRunner().invoke(main, ["demo", "smallest", *arguments])


@pytest.fixture(scope="module")
def default():
    result = invoke()
    assert result.exit_code == 0, result.output
    return result.output


def test_default_fits_one_read_of_a_terminal(default):
    lines = default.splitlines()

    assert 60 <= len(lines) <= 90
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in default


@pytest.mark.parametrize(
    "arguments",
    [
        ["-T", "1", "-T", "7", "-T", "40", "-T", "41", "-T", "500"],
        ["-T", "1000", "--w-h", "3", "--activation", "relu"],
        ["-T", "40", "--w-h", "-1.25", "--activation", "tanh", "--every-step"],
        ["-T", "5", "--learning-rate", "1e200", "--activation", "leaky_relu"],
        ["-T", "3", *(f"--seed={seed}" for seed in range(1, 40))],
    ],
)
def test_any_setting_stays_within_80_columns(arguments):
    result = invoke(*QUICK[2:], "--epochs", "5", *arguments)

    assert result.exit_code == 0, result.output
    assert max(map(len, result.output.splitlines())) <= 80


def test_default_tells_the_two_trainings_apart(default):
    text = " ".join(default.split())

    assert "seeds 0, 1, 2, 3, 4: never more than 2 of 4" in text
    assert "no weights reach ½ ln 2 = 0.3466" in text
    assert "seeds 0, 1, 2, 3, 4: 5 of 5 learn all four" in text


def test_default_shows_where_the_factor_of_relu_stands(default):
    rows = {
        (row[0], float(row[1]), float(row[2])): row[3:]
        for row in map(str.split, default.replace("exact 0", "exact-0").splitlines())
        if row and row[0] in {"tanh", "relu", "leaky_relu"} and len(row) == 9
    }

    assert rows["relu", 0.5, 1.0][:5] == ["1", "0.00", "0.00", "0.00", "0.00"]
    assert float(rows["relu", 0.5, 1.5][4]) == pytest.approx(999 * math.log10(1.5), abs=0.005)
    assert float(rows["relu", 0.5, 0.5][4]) == pytest.approx(999 * math.log10(0.5), abs=0.005)
    assert rows["relu", -0.5, 1.0][1:5] == ["exact-0"] * 4
    assert float(rows["tanh", 0.5, 1.5][4]) < -600  # above 1, and vanishes all the same


def test_sentence_that_tanh_vanishes_above_one_stands_only_where_it_does():
    quiet = invoke(*QUICK, "-T", "3", "--activation", "tanh", "--w-h", "0.5")
    loud = invoke(*QUICK, "-T", "100", "--activation", "tanh", "--w-h", "1.5")

    assert "vanishes here" not in quiet.output
    assert "tanh with w_h = 1.5 vanishes here" in loud.output


def test_relu_is_not_said_to_learn():
    result = invoke(*QUICK, "-T", "3", "--activation", "relu")

    assert "0 of 1 learn all four" in result.output
    assert "Why ReLU cannot" in result.output


def test_every_step_prints_every_step():
    short = invoke(*QUICK, "-T", "30", "--activation", "relu", "--w-h", "1").output
    full = invoke(*QUICK, "-T", "30", "--activation", "relu", "--w-h", "1", "--every-step").output

    assert "20 more; --every-step prints them" in short
    assert "more; --every-step" not in full
    assert len(full.splitlines()) > len(short.splitlines()) + 20


def test_json_is_one_object_with_every_epoch_and_every_term():
    result = invoke(*QUICK, "-T", "3", "-T", "1000", "--json")

    record = json.loads(result.stdout)
    assert result.stdout.count("\n") == 1
    assert {run["bias"] for run in record["training"]} == {False, True}
    assert all(len(run["epochs"]["w_h"]) == 201 for run in record["training"])
    assert [run["steps"] for run in record["flow"][:2]] == [3, 1000]
    for run in record["flow"]:
        for part in run["terms"].values():
            assert len(part["value"]) == len(part["log10"]) == run["steps"]
            shares = part["share"]
            if part["reason"] is None:
                unit = sum(map(abs, shares))
                assert abs(math.fsum(shares) - 1) <= 2.0**-51 * unit
            else:
                assert set(shares) == {None}


def test_json_of_a_pass_repeats_the_library():
    record = json.loads(invoke(*QUICK, "-T", "3", "--w-h", "1.5", "--json").stdout)
    run = unroll(ScalarWeights(0.5, 1.5, -1), (1, 0, 1), 1)

    assert record["flow"][0]["states"] == list(run.states)
    total = record["flow"][0]["terms"]["w_h"]["total"]
    assert total == pytest.approx(bptt(run).w_h, rel=1e-14)
    assert [run["outcome"] for run in record["exploded"]] == ["finite", "saturated"]


def test_json_has_null_where_a_number_is_not_finite():
    record = json.loads(
        invoke(*QUICK, "-T", "1000", "--activation", "relu", "--w-h", "3", "--json").stdout
    )

    exploded, dead = record["flow"]
    assert exploded["outcome"] == "overflow"
    assert exploded["states"][-1] is None
    assert "range of float64" in exploded["terms"]["w_h"]["reason"]
    assert exploded["products"]["log10"][0] == pytest.approx(999 * math.log10(3))
    assert dead["products"]["log10"][0] is None
    assert dead["products"]["sign"][0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--w-h", "nan"], "argument 'w_h' must be a finite number"),
        (["--learning-rate", "-1"], "argument 'learning_rate'"),
        (["--steps", "0"], "0 is not in the range"),
        (["--activation", "gelu"], "'gelu' is not one of"),
    ],
)
def test_wrong_option_is_a_usage_error(arguments, message):
    result = invoke(*arguments)

    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output


def test_lengths_are_sorted_and_counted_once():
    demo = run_demo(steps=[10, 3, 10], activations=["relu"], seeds=[0], epochs=1)

    assert [len(run.inputs) for run in demo.passes[:2]] == [3, 10]
    assert demo.passes[1].inputs[0] == 1.0
    assert "T = 3" in demo_as_text(demo)


def test_demo_needs_no_torch():
    code = (
        "import sys; from gradreach.cli.smallest import run_demo;"
        "run_demo(steps=[3], seeds=[0], epochs=1); sys.exit('torch' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)

    assert done.returncode == 0, done.stderr
