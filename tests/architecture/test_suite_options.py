"""The suite's own dials: a named skip, `--require-all`, tests that opt in, fixed seeds."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SAMPLE = """
import random
import pytest

def test_chromium(lacks):
    lacks("Chromium")

@pytest.mark.slow
def test_long():
    pass

@pytest.mark.gpu
def test_gpu():
    import torch
    assert torch.cuda.is_available()

@pytest.mark.parametrize("again", [1, 2])
def test_draw(again):
    import numpy, torch
    print("drawn", random.random(), numpy.random.rand(), torch.rand(1).item())
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run a small suite under the real conftest.py and the real configuration."""
    folder = tmp_path_factory.mktemp("suite")
    shutil.copy(ROOT / "tests" / "conftest.py", folder)
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "test_sample.py").write_text(SAMPLE)

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "pytest", "-s", "-o", "testpaths=.", *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    return run


@pytest.fixture(scope="module")
def default_run(run):
    return run()


@pytest.fixture(scope="module")
def demanding_run(run):
    return run("--require-all", "--slow")


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def test_what_the_machine_lacks_is_a_named_skip(default_run):
    assert "machine lacks Chromium" in default_run
    assert ("machine lacks a GPU" in default_run) is not has_gpu()
    assert f"{1 if has_gpu() else 2} skipped" in default_run
    assert "failed" not in default_run


def test_require_all_makes_named_skips_red(demanding_run):
    assert "machine lacks Chromium (--require-all)" in demanding_run
    assert "1 failed" in demanding_run
    assert ("machine lacks a GPU (--require-all)" in demanding_run) is not has_gpu()
    assert "skipped" not in demanding_run


def test_slow_test_waits_until_asked_for(default_run, demanding_run):
    assert "1 deselected" in default_run
    assert "deselected" not in demanding_run


@pytest.mark.parametrize("asked", ["--slow", "-mslow", "test_sample.py::test_long"])
def test_slow_test_is_collected_when_asked_for(run, asked):
    output = run("--collect-only", "-q", asked)

    assert "test_sample.py::test_long" in output


def test_every_test_draws_the_same_numbers_in_any_order(default_run, demanding_run):
    lines = (default_run + demanding_run).splitlines()

    drawn = [line.partition("drawn ")[2] for line in lines if "drawn " in line]
    assert len(drawn) == 4
    assert len(set(drawn)) == 1
