"""The corpus of `./dev proof cure` is as large as promised, and its scripts run as told."""

from __future__ import annotations

import importlib.util
import re
import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "proofs" / "_cure"


@pytest.fixture(scope="module")
def corpus() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cure_corpus", FOLDER / "corpus.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_corpus_is_as_large_as_promised(corpus: ModuleType) -> None:
    kinds = {case.kind for case in corpus.REPAIRABLE}

    assert len(corpus.REPAIRABLE) >= 24 and len(kinds) >= 8 and len(corpus.UNREPAIRABLE) >= 12
    assert len({case.name for case in corpus.CASES}) == len(corpus.CASES)
    assert all(case.repairable for case in corpus.REPAIRABLE)
    assert not any(case.repairable for case in corpus.UNREPAIRABLE)
    assert all((FOLDER / case.command(0)[0]).is_file() for case in corpus.CASES)


@pytest.mark.parametrize(
    ("script", "args"),
    [
        ("last_step", "--task order --length 10 --steps 2 --cell relu --identity 1 --bias 1"),
        ("cell_loop", "--cell lstm --detach 3 --length 6 --steps 2 --forget 1"),
        ("stream", "--cell rnn --window 6 --lag 2 --updates 2 --clip 1 --clip-early"),
        ("hopeless", "--data fixed --steps 2"),
    ],
)
def test_script_prints_its_error_and_one_seed_gives_one(
    script: str,
    args: str,
    corpus: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    errors = []
    for seed in ("7", "7", "8"):
        monkeypatch.setattr(sys, "argv", [script, *args.split(), "--seed", seed])
        runpy.run_path(str(FOLDER / f"{script}.py"), run_name="__main__")
        errors.append(float(re.findall(corpus.METRIC, capsys.readouterr().out)[-1]))

    assert errors[0] == errors[1] >= 0.0
