"""The place-language part of `gradreach demo` is the example's own training, diagnosed."""

from __future__ import annotations

import functools
import importlib.util
import json
import random
import re
import sys

import pytest
import torch

import gradreach
from gradreach.cli.demo import _place_part
from gradreach.cli.demo_json import demo_as_plain
from gradreach.cli.demo_report import found_in
from gradreach.cli.example import load_example
from gradreach.cli.next_word import load_text
from gradreach.cli.place_language import NEEDED, OPTIONS, load_place, measure_place
from gradreach.cli.place_text import accuracy_lines, place_intro_lines, place_lines, place_verdict
from gradreach.cli.smallest import run_demo


@functools.cache  # loaded and trained once; the fixtures below skip where that is impossible
def loaded():
    return load_place(load_example("place_language"))


@functools.cache
def trained():
    return measure_place(loaded(), "lstm", steps=2)


@pytest.fixture
def data(lacks):
    if importlib.util.find_spec("babel") is None:
        lacks("babel (extra: data)")
    return loaded()


@pytest.fixture
def run(data):
    return trained()


def test_without_its_extra_the_part_says_so_and_goes_on(monkeypatch):
    monkeypatch.setitem(sys.modules, "babel", None)
    said = []

    runs, missing = _place_part(said.extend, 1)

    assert runs == []
    assert missing.count(".") == 1
    assert "needs `babel`: pip install 'gradreach[data]'" in missing
    assert missing in " ".join(" ".join(said).split())


def test_training_is_that_of_the_script_number_for_number(data, capsys, monkeypatch):
    example, losses = data.example, []
    train_step = example.train_step
    monkeypatch.setattr(
        example, "train_step", lambda *a, **k: losses.append(train_step(*a, **k)) or losses[-1]
    )
    measure_place(data, "rnn", steps=3)
    ours, losses[:] = list(losses), []

    small = ["--steps", "3", "--log-every", "1", "--test-sentences", "4", "--distances", "2"]
    example.main(["--cell", "rnn", *OPTIONS, *small])

    assert ours == losses
    assert re.findall(r"loss ([\d.]+)", capsys.readouterr().out) == [f"{x:.3f}" for x in ours]


def test_start_is_what_measure_and_diagnose_return_for_the_example(data, run):
    # Independently of the demo's own code.
    example = data.example
    args = example.parse_args(["--cell", "lstm"])
    torch.manual_seed(0)
    args.train_distances = [NEEDED]
    model = example.build_model(args, len(data.vocabulary))
    batch = example.make_batch(
        data.train, data.vocabulary, distance=NEEDED, batch=32, rng=random.Random("measure")
    )

    def answers():
        logits = model(batch.inputs)
        scores = [logits[row, step] for row, step in enumerate(batch.answer_at)]
        words = [batch.targets[row, step] for row, step in enumerate(batch.answer_at)]
        return torch.nn.functional.cross_entropy(torch.stack(scores), torch.stack(words))

    flow = gradreach.measure(model, answers)

    start = run.stages[0]
    assert start.flow.loss == pytest.approx(flow.loss, rel=1e-6)
    assert start.layer.lag_profile == pytest.approx(flow.layers["rnn"].lag_profile, rel=1e-4)
    found = gradreach.diagnose(flow, needs_lag=50)
    assert [(f.code, f.severity) for f in start.findings] == [(f.code, f.severity) for f in found]
    assert [(f.code, f.severity) for f in found] == [("vanishing-gradient", "error")]


def test_long_memory_from_the_start_has_no_problem(data):
    run = measure_place(data, "chrono", steps=0)

    assert run.stages[0].problems == ()
    assert run.stages[0].left > 0.01
    assert len(run.stages) == 1


def test_text_fits_a_terminal_and_tells_each_finding_once_with_its_stages(data, run):
    lines = [*place_intro_lines(data), *place_lines(run), *accuracy_lines([run])]

    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert text.count("error: vanishing-gradient") == 1
    assert "at the start, rnn.l0: the recurrence contracts" in text
    assert "To refute it: raise the bias of the forget gate" in text
    assert "your task needs 50 steps" in text
    assert f"{data.places} places" in text


def test_accuracies_of_the_table_are_those_of_the_example(data, run):
    last = run.stages[-1]

    rows = list(accuracy_lines([run]))[-4:]

    assert rows[0].split()[2:] == ["2", "4", "10", "50"] == [str(d) for d in last.accuracy]
    assert [f"{100 * a.to_language:.0f}" for a in last.accuracy.values()] == re.findall(
        r"(\d+) %", rows[1]
    )
    assert all(0 < a.majority < 0.2 for a in last.accuracy.values())


def test_two_steps_are_not_said_to_have_taught_it(run):
    said = place_verdict([run])

    assert len(said) == 1
    assert "untrained: vanishing-gradient (reach " in said[0]
    assert "it has not learned what its gradient does not reach" in said[0]
    assert f"It is right in {100 * run.stages[-1].accuracy[NEEDED].mean:.0f} %" in said[0]


def test_findings_of_the_report_name_cell_and_stage(run):
    found = found_in([], [run])

    assert [item.place for item in found] == [
        f"50 words apart, nn.LSTM, {time}, rnn.l0" for time in ("at the start", "after 2 steps")
    ]


def test_json_holds_findings_and_accuracy(run):
    text = load_text(load_example("next_word"))
    plain = demo_as_plain(
        run_demo(steps=[3], seeds=[0], epochs=1), text, [], [], places=[run], missing=None
    )

    told = json.loads(json.dumps(plain, allow_nan=False))["place_language"]["models"][0]
    start, last = told["stages"]
    assert (start["training_steps"], last["training_steps"]) == (0, 2)
    assert start["accuracy"] == []
    assert [row["distance"] for row in last["accuracy"]] == [2, 4, 10, 50]
    assert start["findings"][0]["code"] == "vanishing-gradient"
    assert start["findings"][0]["numbers"]["needs_lag"] == 50
    assert start["reach"] == run.stages[0].layer.reach()
