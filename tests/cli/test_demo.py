"""`gradreach demo`: what it prints is what was measured on the example script itself."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import gradreach
from gradreach.cli import main
from gradreach.cli.demo_json import demo_as_plain
from gradreach.cli.demo_text import next_word_lines, verdict_sentences
from gradreach.cli.example import ExampleError, example_path, load_example
from gradreach.cli.next_word import load_text, measure_next_word
from gradreach.cli.smallest import run_demo

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The real command, once: it takes some seconds."""
    folder = tmp_path_factory.mktemp("demo")
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "gradreach", "demo", "--quick"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(gradreach.__file__).parents[1])},
    )
    seconds = time.monotonic() - started
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr, folder, seconds


@pytest.fixture(scope="module")
def text():
    return load_text(load_example("next_word"))


@pytest.fixture(scope="module")
def run(text):
    return measure_next_word(text, "lstm", steps=1)


def test_output_fits_a_terminal_and_is_plain(quick):
    output, errors, _, _ = quick

    assert max(map(len, output.splitlines())) <= 80
    assert "\x1b" not in output
    assert errors == ""  # the progress bar is for terminals only


def test_quick_is_quick(quick):
    assert quick[3] < 75  # 25 s is the goal; three times that on a busy machine


def test_output_tells_the_story_in_order(quick):
    output = quick[0]
    places = [
        output.index(words)
        for words in (
            "at most 2 of 4 right",
            "c_k w_h  share",
            "2  A real one: the next word of English prose",
            "nn.RNN, 2 layers of 128 units, measured on 16 windows of 60 words",
            "at the start: loss 7.",
            "after 10 steps: loss ",
            "Diagnosis, after 10 steps:\n  warning: ",
            "nn.LSTM, 2 layers",
            "3  A task that needs 50 words",
            "Verdict\n",
            "Report: gradreach-demo/report.html",
        )
    ]

    assert places == sorted(places)
    assert output.endswith(f"\nReport: {Path('gradreach-demo') / 'report.html'}\n")


def test_output_has_a_reach_for_every_layer_at_both_stages(quick):
    told = re.findall(r"rnn\.l(\d): of a word's loss, less than 1 % of the gradient", quick[0])

    assert told == ["0", "1"] * 4  # two cells, two stages


def test_report_stands_where_the_last_line_says(quick):
    output, _, folder, _ = quick
    page = (folder / output.split()[-1]).read_text(encoding="utf-8")

    assert not re.search(r"https?:", page)
    stages = re.findall(r"<h2>((?:Next word|Place and language): .*)</h2>", page)
    assert page.count("<h3>rnn.l0</h3>") == len(stages) >= 4
    assert page.index("<h2>Findings</h2>") < page.index(f"<h2>{stages[0]}</h2>")
    for sentence in re.findall(r"nn\.\w+: at the start.*?\.(?=\s)", output.partition("Verdict")[2]):
        assert " ".join(sentence.split()) in page.replace("&#39;", "'")
    assert [path.name for path in folder.iterdir()] == ["gradreach-demo"]


def test_stages_are_what_measure_returns_for_the_example(text, run):
    # Independently of the demo's own code: the example's model, the first window of its stream.
    example = text.example
    args = example.parse_args(["--cell", "lstm"])
    torch.manual_seed(0)
    windows = torch.Generator().manual_seed(0)
    model = example.build_model(args, len(text.vocabulary))
    inputs, targets = next(example.batches(text.train, seq_len=60, batch=16, generator=windows))
    flow = gradreach.measure(
        model, lambda: example.next_word_loss(model, inputs, targets), lag_probes=20
    )

    assert run.start.flow.loss == pytest.approx(flow.loss, rel=1e-6)
    for name, layer in flow.layers.items():
        measured = run.start.flow.layers[name]
        assert measured.lag_profile == pytest.approx(layer.lag_profile, rel=1e-4)
    assert run.window == text.spelt(inputs[0])
    assert run.target == text.spelt(targets[0, -1:])[0]


def test_training_really_happens_between_the_stages(run):
    assert run.trained.flow.loss < run.start.flow.loss
    assert (run.start.steps, run.trained.steps) == (0, 1)


def test_last_word_is_the_only_loss_of_the_second_measurement(run):
    for stage in (run.start, run.trained):
        assert {layer.loss_steps for layer in stage.last_word.layers.values()} == {(59,)}
        assert len(stage.flow.layers["rnn.l0"].loss_steps) == 60


def test_both_cells_are_measured_on_the_same_words(text, run):
    assert measure_next_word(text, "rnn", steps=0).window == run.window


def test_brackets_hold_as_many_words_as_the_reach(run):
    shown = " ".join(" ".join(next_word_lines(run)).split())
    window = re.search(r"to be predicted: (.*) → (\S+)$", shown)

    assert window is not None
    before, _, within = window[1].removesuffix(" ]").partition(" [ ")
    assert before.split() + within.split() == run.window
    assert len(within.split()) == run.trained.farthest.reach()
    assert window[2] == run.target


def test_verdict_compares_only_what_differs(run):
    assert len(verdict_sentences([run])) == 2
    assert not any("where nn.LSTM reaches" in s for s in verdict_sentences([run, run]))


def test_json_is_one_strict_object(text, run):
    plain = demo_as_plain(run_demo(steps=[3], seeds=[0], epochs=5), text, [run], ["Said."])

    told = json.loads(json.dumps(plain, allow_nan=False))
    assert told["text"] == {"words": len(text.train), "different": len(text.vocabulary)}
    start, trained = told["models"][0]["stages"]
    assert (start["training_steps"], trained["training_steps"]) == (0, 1)
    for layer in start["layers"]:
        assert layer["reach"] == run.start.flow.layers[layer["name"]].reach()
        assert len(layer["lag_profile"]) == layer["lags"] == 60
        assert max(layer["closure_error"].values()) < 1e-5  # float32, as tests/claims.py argues
        assert sum(part["share"] for part in layer["last_word_shares"]) == pytest.approx(1)
    assert start["findings"] == [found.to_dict() for found in run.start.findings] != []
    assert told["verdict"] == ["Said."]
    assert told["place_language"] == {"left_out": None, "models": []}


def test_unwritable_report_is_told_before_anything_is_computed(tmp_path):
    (tmp_path / "file").touch()

    result = CliRunner().invoke(main, ["demo", "--out", str(tmp_path / "file" / "r.html")])

    assert result.exit_code == 3
    assert "a part of that path is a file" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--quick", "--steps", "5"], "leave --steps out"),
        (["--json", "smallest"], "put its own options after its name"),
        (["--out", "."], "is a directory"),
        (["--steps", "-1"], "-1 is not in the range"),
    ],
)
def test_options_that_contradict_are_usage_errors(arguments, said):
    result = CliRunner().invoke(main, ["demo", *arguments])

    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


def test_one_neuron_part_alone_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    result = CliRunner().invoke(main, ["demo", "smallest", "--seed", "0", "--epochs", "5"])

    assert result.exit_code == 0
    assert result.output.startswith("The smallest recurrent network: one neuron")
    assert list(tmp_path.iterdir()) == []


def test_example_is_the_script_of_the_repository():
    assert example_path("next_word").read_text() == (ROOT / "examples/next_word.py").read_text()


def test_loading_an_example_leaves_no_module_behind():
    before = sys.modules.get("place_language")

    module = load_example("place_language")  # defines dataclasses, which need it there meanwhile

    assert module.Batch.__module__ == "place_language"
    assert sys.modules.get("place_language") is before


def test_missing_example_is_told():
    with pytest.raises(ExampleError, match=r"no_such\.py is not part of this installation"):
        example_path("no_such")


def test_example_that_needs_a_missing_module_is_told(tmp_path, monkeypatch):
    (tmp_path / "needy.py").write_text("import no_such_module_anywhere\n")
    monkeypatch.setattr("gradreach.cli.example.example_path", lambda name: tmp_path / "needy.py")

    with pytest.raises(ExampleError, match=r"needy\.py needs the module no_such_module_anywhere"):
        load_example("needy")


@pytest.mark.skipif(sys.platform == "win32", reason="machine lacks pseudo-terminals")
def test_progress_goes_to_the_terminal_and_the_text_to_its_file():
    # Standard error is a terminal, standard output is not: `gradreach demo > demo.txt`.
    code = (
        "from gradreach.cli.demo import _progress\n"
        "with _progress('training', 2) as advance:\n"
        "    advance(); print('the text'); advance()\n"
    )
    terminal, end = os.openpty()
    environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}

    done = subprocess.run(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=end,
        check=True,
        env={**environment, "TERM": "xterm"},
    )
    os.close(end)
    shown = os.read(terminal, 100_000).decode()
    os.close(terminal)

    assert done.stdout == b"the text\n"
    assert "training" in shown
    assert "the text" not in shown
