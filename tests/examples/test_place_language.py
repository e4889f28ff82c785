"""The place-and-language script asks real facts over an exact distance, and nothing leaks them."""

from __future__ import annotations

import ast
import importlib.util
import math
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "examples" / "place_language.py"
TINY = ["--hidden", "16", "--batch", "4", "--steps", "3", "--test-sentences", "20"]
TINY += ["--train-distances", "2", "10", "--distances", "2", "10"]
FORWARD, BACKWARD = "place to language", "language to place"

needs_babel = pytest.mark.usefixtures("babel")


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    name = "example_place_language"
    spec = importlib.util.spec_from_file_location(name, SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their own module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[name]


@pytest.fixture
def babel(request: pytest.FixtureRequest) -> None:
    if importlib.util.find_spec("babel") is None:
        request.getfixturevalue("lacks")("babel (extra: data)")


@pytest.fixture
def data(babel: None, script: ModuleType) -> dict[str, object]:
    train, held_out = script.load_data()
    return {"train": train, "held_out": held_out}


def windows(words: list[str], length: int) -> set[tuple[str, ...]]:
    return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}


def templates_of(templates: object) -> set[str]:
    return {*templates.short, *templates.openers, *templates.closers}  # type: ignore[attr-defined]


def test_script_knows_nothing_of_gradreach() -> None:
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"))

    imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    imported |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}

    assert not any(name.startswith("gradreach") for name in imported)
    assert "torch" in imported


# ------------------------------------------------------------------ facts


@needs_babel
def test_facts_are_several_dozen_pairs_with_known_ones_among_them(script: ModuleType) -> None:
    facts = script.load_facts()

    assert len(facts) >= 48
    assert len({place for place, _ in facts}) == len(facts)
    assert {
        ("maharashtra", "marathi"),
        ("tamil_nadu", "tamil"),
        ("iceland", "icelandic"),
        ("south_korea", "korean"),
        ("myanmar", "burmese"),
    } <= set(facts)


@needs_babel
def test_state_languages_are_official_in_india_by_cldr(script: ModuleType) -> None:
    from babel.core import get_global

    india = get_global("territory_languages")["IN"]

    for place, code in script.INDIAN_STATES.items():
        assert india[code]["official_status"] in ("official", "official_regional"), place


def test_maharashtra_and_marathi_are_asked_in_both_directions(data: dict) -> None:
    answers = data["train"].answers

    assert ("maharashtra", "marathi") in answers[FORWARD]
    assert ("marathi", "maharashtra") in answers[BACKWARD]


def test_language_of_two_places_is_not_asked_for_its_place(script: ModuleType) -> None:
    facts = [("bangladesh", "bangla"), ("west_bengal", "bangla"), ("kerala", "malayalam")]

    answers = script.build_answers(facts)

    assert answers[FORWARD] == facts
    assert answers[BACKWARD] == [("malayalam", "kerala")]


def test_name_of_several_words_becomes_one_word(script: ModuleType) -> None:
    assert script.as_word("Tamil Nadu") == "tamil_nadu"
    assert script.as_word("Myanmar (Burma)") == "myanmar"


# ------------------------------------------------------------------ sentences


@pytest.mark.parametrize("split", ["train", "held_out"])
@pytest.mark.parametrize("direction", [FORWARD, BACKWARD])
@pytest.mark.parametrize("distance", [2, 3, 4, 5, 6, 7, 10, 17, 50, 100, 400])
def test_distance_is_exactly_as_dialled_and_no_other_name_stands_in_the_sentence(
    script: ModuleType, data: dict, split: str, direction: str, distance: int
) -> None:
    source = data[split]
    names = {name for pairs in source.answers.values() for pair in pairs for name in pair}
    rng = random.Random(distance)

    for _ in range(50):
        sentence = script.make_sentence(source, direction=direction, distance=distance, rng=rng)

        assert sentence.answer_at - sentence.given_at == distance
        given, answer = sentence.words[sentence.given_at], sentence.words[sentence.answer_at]
        assert (given, answer) in source.answers[direction]
        assert [word for word in sentence.words if word in names] == [given, answer]
        assert len(sentence.words) == script.LEAD + distance + script.TAIL


def test_every_answer_is_asked_about_equally_often(script: ModuleType, data: dict) -> None:
    source, rng = data["train"], random.Random(0)
    draws = 6000

    asked = Counter(
        s.words[s.given_at]
        for s in (
            script.make_sentence(source, direction=FORWARD, distance=10, rng=rng)
            for _ in range(draws)
        )
    )

    places = len(source.answers[FORWARD])
    assert len(asked) == places
    # Binomial(6000, 1/58): mean 103, standard deviation 10; six of them leave no false alarm.
    mean = draws / places
    assert max(abs(count - mean) for count in asked.values()) < 6 * math.sqrt(mean)


def test_held_out_text_is_not_trained_on(data: dict) -> None:
    train, held_out = data["train"].text, data["held_out"].text

    assert len(train) > 30_000
    assert len(held_out) > 8_000
    assert not windows(train, 30) & windows(held_out, 30)


@pytest.mark.parametrize("direction", [FORWARD, BACKWARD])
def test_held_out_templates_are_new_but_all_their_words_are_known(
    script: ModuleType, data: dict, direction: str
) -> None:
    trained = templates_of(data["train"].templates[direction])
    new = templates_of(data["held_out"].templates[direction])

    vocabulary = script.build_vocabulary(data["train"], 0)

    assert not trained & new
    words = {word for template in new for word in template.split()} - {"{x}", "{y}"}
    assert words <= set(vocabulary)


def test_sentences_of_the_mission_are_among_the_held_out_ones(script: ModuleType) -> None:
    forward = script.HELD_OUT_TEMPLATES[FORWARD]
    backward = script.HELD_OUT_TEMPLATES[BACKWARD]

    assert "{x} is spoken in {y}" in backward.short
    assert "{x} is a beautiful place ." in forward.openers
    assert any(
        closer.startswith("i went there last year , but") and closer.endswith("understand {y}")
        for closer in forward.closers
    )


def test_distance_below_two_says_what_to_choose(script: ModuleType, data: dict) -> None:
    with pytest.raises(ValueError, match=r"`distance` must be at least 2 words, got 1; .*choose 2"):
        script.make_sentence(data["train"], direction=FORWARD, distance=1, rng=random.Random(0))


@needs_babel
def test_text_shorter_than_a_sentence_says_what_to_choose(
    script: ModuleType, tmp_path: Path
) -> None:
    path = tmp_path / "short.txt"
    path.write_text("A text of ten words is not quite long enough.", encoding="utf-8")
    train, _ = script.load_data(path)

    with pytest.raises(ValueError, match=r"got 8; choose a longer --text"):
        script.make_sentence(train, direction=FORWARD, distance=50, rng=random.Random(0))


# ------------------------------------------------------------------ batches, model, training


def test_batch_targets_hold_the_answer_where_answer_at_says(script: ModuleType, data: dict) -> None:
    vocabulary = script.build_vocabulary(data["train"], 100)

    batch = script.make_batch(data["train"], vocabulary, distance=10, batch=6, rng=random.Random(1))

    assert batch.inputs.shape == batch.targets.shape == (6, script.LEAD + 10 + script.TAIL - 1)
    assert torch.equal(batch.inputs[:, 1:], batch.targets[:, :-1])
    assert batch.reverse.tolist() == [False, True] * 3
    words = {number: word for word, number in vocabulary.items()}
    for row in range(6):
        answer_at = int(batch.answer_at[row])
        # The given word is read `distance` words before the answer is: the answer is read one
        # step after it was to be predicted.
        given = words[int(batch.inputs[row, answer_at + 1 - 10])]
        answer = words[int(batch.targets[row, answer_at])]
        direction = BACKWARD if batch.reverse[row] else FORWARD
        assert (given, answer) in data["train"].answers[direction]


@pytest.mark.parametrize(
    ("cell", "kind"), [("rnn", "RNN"), ("gru", "GRU"), ("lstm", "LSTM"), ("chrono", "LSTM")]
)
def test_model_scores_every_word_at_every_step(script: ModuleType, cell: str, kind: str) -> None:
    model = script.PlaceLanguage(40, cell=cell, hidden=8, max_distance=100)

    assert type(model.rnn).__name__ == kind
    assert model(torch.zeros(3, 9, dtype=torch.long)).shape == (3, 9, 40)


def test_chrono_biases_spread_the_forgetting_times_over_the_distances(script: ModuleType) -> None:
    hidden, longest = 512, 100
    model = script.PlaceLanguage(5, cell="chrono", hidden=hidden, max_distance=longest)

    bias = model.rnn.bias_ih_l0 + model.rnn.bias_hh_l0
    input_gate, forget_gate = bias[:hidden], bias[hidden : 2 * hidden]

    assert torch.equal(input_gate, -forget_gate)
    times = forget_gate.exp()
    assert times.min() >= 1
    assert times.max() <= longest - 1 + 1e-3  # exp(log(99)) in float32
    # Uniform on [1, 99]: mean 50, standard error 28.3 / sqrt(512) = 1.25; five of them.
    assert times.mean().item() == pytest.approx(50, abs=6.3)


def test_baselines_count_the_commonest_answer_and_the_number_of_answers(
    script: ModuleType,
) -> None:
    answers = torch.tensor([7, 7, 7, 8, 1, 2, 3, 4])
    batch = script.Batch(
        inputs=torch.zeros(8, 1, dtype=torch.long),
        targets=answers[:, None],
        answer_at=torch.zeros(8, dtype=torch.long),
        reverse=torch.tensor([False] * 4 + [True] * 4),
    )

    majority, chance = script.baselines(batch)

    assert majority == pytest.approx((3 / 4 + 1 / 4) / 2)
    assert chance == pytest.approx((1 / 2 + 1 / 4) / 2)


def test_short_training_learns_the_facts_at_distance_two(script: ModuleType, data: dict) -> None:
    train, rng = data["train"], random.Random(0)
    vocabulary = script.build_vocabulary(train, 100)
    args = script.parse_args(["--cell", "rnn", "--hidden", "64", "--train-distances", "2"])
    model = script.build_model(args, len(vocabulary))
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)

    for _ in range(300):
        batch = script.make_batch(train, vocabulary, distance=2, batch=32, rng=rng)
        script.train_step(model, optimizer, batch, clip=1.0, answer_weight=1.0)

    test = script.make_batch(
        data["held_out"], vocabulary, distance=2, batch=400, rng=random.Random(1)
    )
    majority, _ = script.baselines(test)
    assert min(script.accuracy(model, test)) > 0.5 > 5 * majority
    # Over all words, too: below the entropy of the very words it is tested on.
    counts = torch.bincount(test.targets.flatten()).double()
    share = counts[counts > 0] / counts.sum()
    entropy = float(-(share * share.log()).sum())
    with torch.no_grad():
        assert script.next_word_loss(model, test, answer_weight=0.0).item() < entropy


@needs_babel
def test_seed_decides_every_number(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = []
    for seed in ("3", "3", "4"):
        script.main([*TINY, "--seed", seed, "--cell", "chrono"])
        lines = capsys.readouterr().out.splitlines()
        outputs.append([line for line in lines if " steps in " not in line])  # not the time

    assert outputs[0] == outputs[1]
    assert outputs[0] != outputs[2]


@needs_babel
def test_script_runs_as_a_program_on_a_text_of_ones_own(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The quick brown fox jumps over the lazy dog. " * 40, encoding="utf-8")
    command = [sys.executable, str(SCRIPT), *TINY, "--cell", "gru", "--text", str(text)]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "320 words of running text for training, 80 held out" in lines[0]
    assert [line.split()[0] for line in lines[-3:]] == ["distance", "2", "10"]


def test_missing_babel_is_told_in_one_sentence(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    # None in sys.modules is how Python itself marks a module that cannot be imported.
    monkeypatch.setitem(sys.modules, "babel", None)

    with pytest.raises(SystemExit) as stopped:
        script.main(TINY)

    assert stopped.value.code == (
        "place_language: the facts come from CLDR, and babel is not installed; "
        "run `pip install babel`."
    )
