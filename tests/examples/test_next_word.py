"""The next-word script trains on real prose, learns from it, and is an ordinary user's script."""

from __future__ import annotations

import ast
import importlib.util
import math
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "examples" / "next_word.py"
TINY = ["--layers", "1", "--hidden", "16", "--seq-len", "10", "--batch", "4", "--steps", "3"]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("example_next_word", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def data(script: ModuleType) -> tuple[torch.Tensor, torch.Tensor, int]:
    train, held_out = script.load_words()
    vocabulary = script.build_vocabulary(train)
    return script.encode(train, vocabulary), script.encode(held_out, vocabulary), len(vocabulary)


def windows(words: list[str], length: int) -> set[tuple[str, ...]]:
    return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}


def test_script_knows_nothing_of_gradreach() -> None:
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"))

    imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    imported |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}

    assert not any(name.startswith("gradreach") for name in imported)
    assert "torch" in imported


def test_words_are_much_real_prose_and_held_out_text_is_not_trained_on(script: ModuleType) -> None:
    train, held_out = script.load_words()

    assert len(train) > 30_000
    assert len(held_out) > 5_000
    # The topics quote each other at length. Without the rule that a paragraph counts once,
    # stretches of 100 words and more stand on both sides.
    assert not windows(train, 30) & windows(held_out, 30)


def test_vocabulary_leaves_rare_words_unknown(script: ModuleType) -> None:
    vocabulary = script.build_vocabulary(["a", "b", "a", "b", "a", "c"], min_count=2)

    assert vocabulary == {"<unk>": 0, "a": 1, "b": 2}
    assert script.encode(["c", "b"], vocabulary).tolist() == [0, 2]


def test_batches_targets_are_the_words_one_later(script: ModuleType) -> None:
    words = torch.arange(100)

    inputs, targets = next(script.batches(words, seq_len=7, batch=5))

    assert inputs.shape == targets.shape == (5, 7)
    assert torch.equal(targets, inputs + 1)


def test_batches_of_longer_windows_than_text_says_what_to_do(script: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"got 5 words for windows of 7; choose a smaller --seq"):
        next(script.batches(torch.arange(5), seq_len=7, batch=2))


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_model_scores_every_word_at_every_step(script: ModuleType, cell: str) -> None:
    args = script.parse_args([*TINY, "--cell", cell, "--layers", "2"])
    model = script.build_model(args, vocab_size=50)

    logits = model(torch.zeros(4, 10, dtype=torch.long))

    assert logits.shape == (4, 10, 50)
    assert type(model.rnn).__name__.lower() == cell
    assert model.rnn.num_layers == 2


def test_unigram_loss_of_words_in_even_use_is_the_log_of_their_number(script: ModuleType) -> None:
    words = torch.arange(8).repeat(5)

    assert script.unigram_loss(words, words, 8) == pytest.approx(math.log(8), rel=1e-12)


def test_short_training_beats_word_frequencies_on_held_out_text(
    script: ModuleType, data: tuple[torch.Tensor, torch.Tensor, int]
) -> None:
    train, held_out, vocab_size = data
    args = script.parse_args(["--layers", "1", "--hidden", "32", "--dropout", "0"])
    model = script.build_model(args, vocab_size)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    stream = script.batches(train, seq_len=20, batch=16)
    before = script.evaluate(model, held_out, seq_len=60)

    for _ in range(100):
        script.train_step(model, optimizer, *next(stream))

    # An untrained network is near ln(vocabulary); 100 steps gain about 2 nats over it.
    assert before == pytest.approx(math.log(vocab_size), abs=0.3)
    after = script.evaluate(model, held_out, seq_len=60)
    assert after < script.unigram_loss(train, held_out, vocab_size) - 0.1


def test_seed_decides_every_number(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = []
    for seed in ("3", "3", "4"):
        script.main([*TINY, "--seed", seed])
        outputs.append(capsys.readouterr().out)

    assert outputs[0] == outputs[1]
    assert outputs[0] != outputs[2]


def test_script_runs_as_a_program_and_ends_with_both_perplexities() -> None:
    command = [sys.executable, str(SCRIPT), *TINY, "--cell", "gru"]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("held-out perplexity ")
    assert "word frequencies alone: " in last
