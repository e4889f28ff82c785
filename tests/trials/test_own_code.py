"""Results of two states of our own code are told apart, also under one version number."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from gradreach.trials.fork_server import HEAVY
from gradreach.trials.key import identity_of, key_of
from gradreach.trials.own_code import APART, code_digest
from gradreach.trials.spec import TrialSpec
from gradreach.trials.study import Study, StudyError
from gradreach.trials.target import ScriptTarget

SPEC = TrialSpec(target=ScriptTarget(path="train.py", cwd="/"))


def digest_of(package: Path) -> tuple[str, str]:
    return code_digest("source", package), code_digest("native", package)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    for name in ("flow/measure.py", "kernels/_native.so", "report/page.py", "cli/cure.py"):
        path = folder / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x = 1\n")
    return folder


@pytest.fixture(autouse=True)
def _nothing_kept():
    code_digest.cache_clear()
    yield
    code_digest.cache_clear()


@pytest.mark.parametrize("name", ["flow/measure.py", "kernels/_native.so", "flow/new.py"])
def test_digest_changes_with_source_and_compiled_core(package, name):
    before = digest_of(package)
    code_digest.cache_clear()

    (package / name).write_bytes(b"x = 2\n")

    assert digest_of(package) != before


@pytest.mark.parametrize("name", ["report/page.py", "cli/cure.py", "flow/notes.md"])
def test_digest_does_not_change_with_what_takes_no_part_in_results(package, name):
    before = digest_of(package)
    code_digest.cache_clear()

    (package / name).write_bytes(b"x = 2\n")

    assert digest_of(package) == before


def test_digest_moves_with_a_file_that_is_renamed(package):
    before = digest_of(package)
    code_digest.cache_clear()

    (package / "flow" / "measure.py").rename(package / "flow" / "other.py")

    assert digest_of(package) != before


def test_trial_imports_nothing_that_is_left_out_of_the_digest():
    loads = "; ".join(f"import {name}" for name in HEAVY if name.startswith("gradreach"))
    apart = tuple(f"gradreach.{name}" for name in sorted(APART))
    asks = f"import sys; {loads}; print([m for m in sys.modules if m.startswith({apart!r})])"

    told = subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True, check=True)

    assert told.stdout.strip() == "[]"


def test_digest_of_the_whole_package_is_read_once_and_quickly():
    begun = time.process_time()
    digest = code_digest()
    first = time.process_time() - begun

    assert code_digest() == digest
    assert code_digest.cache_info().hits == 1
    assert first < 0.5  # 0.02 measured; a shared machine may be slow, not twenty-five times


def test_study_of_other_code_is_refused_and_its_trials_have_other_keys(tmp_path, monkeypatch):
    study, key = Study(tmp_path / "study", SPEC), key_of(SPEC)
    assert study.identity == identity_of(SPEC)

    monkeypatch.setattr("gradreach.trials.key.code_digest", lambda *_: "another")

    assert key_of(SPEC) != key
    with pytest.raises(StudyError, match="made by another gradreach, or another torch"):
        Study(tmp_path / "study", SPEC)
