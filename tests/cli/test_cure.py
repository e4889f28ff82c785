"""``gradreach cure`` on real scripts: what is run, what is said, what is written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.cli.cure_driver import GROWING, OPTIONS, again, interrupted, started, table_of

from gradreach.cli import main

SCRIPTS = Path(__file__).parents[1] / "cure_scripts"

# Counts its runs; the third one waits to be interrupted, if it is asked to.
HOLDING = """
import time
from pathlib import Path

with open("runs", "a") as runs:
    runs.write("run\\n")
if Path("hold").exists() and len(Path("runs").read_text().split()) == 3:
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def cured(tmp_path_factory):
    """Cure the growing training, once for all tests that look at it."""
    folder = tmp_path_factory.mktemp("cured")
    (folder / "growing.py").write_text(GROWING)
    study = folder / "study"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ended = CliRunner().invoke(
            main,
            ["cure", "--study", str(study), "--json", *OPTIONS],
        )
    return folder, ended, json.loads(ended.stdout)


def test_healthy_script_is_run_once_and_left_alone(tmp_path, monkeypatch):
    shutil.copy(SCRIPTS / "healthy.py", tmp_path)
    monkeypatch.chdir(tmp_path)

    ended = CliRunner().invoke(main, ["cure", "--study", "study", "healthy.py"])

    assert ended.exit_code == 0
    assert ended.stdout.startswith("No treatment is needed")
    assert len(list((tmp_path / "study" / "trials").iterdir())) == 1


def test_cure_is_found_judged_and_told(cured):
    _, ended, plain = cured

    assert ended.exit_code == plain["exit_code"] == 1
    assert plain["verdict"] == "cured"
    assert plain["winner"]["treatment"] == "clipping(norm=1.0)"
    assert plain["control"]["outcomes"] == {"nonfinite": 2}
    assert {trial["treatment"] for trial in plain["trials"]} == {"control", "clipping(norm=1.0)"}


def test_patch_applied_by_hand_reproduces_the_trial_to_the_bit(cured):
    folder, _, _plain = cured
    by_hand = folder / "by_hand"
    by_hand.mkdir()
    (by_hand / "growing.py").write_text(GROWING)
    patch = (folder / "study" / "cure.patch").read_bytes()

    subprocess.run(["patch", "-p0"], input=patch, cwd=by_hand, check=True, capture_output=True)

    assert "clip_grad_norm_" in (by_hand / "growing.py").read_text()
    seeded = (
        "import torch, runpy, random, numpy as np; torch.set_num_threads(1); "
        "random.seed(0); np.random.seed(0); torch.manual_seed(0); runpy.run_path('growing.py')"
    )
    alone = subprocess.run(
        [sys.executable, "-c", seeded], cwd=by_hand, capture_output=True, text=True, check=True
    )
    logs = [path.read_text() for path in (folder / "study" / "trials").glob("*/log.txt")]
    assert sum(alone.stdout in log for log in logs) == 1


def test_same_command_again_runs_nothing_and_says_the_same(cured, monkeypatch):
    folder, _, plain = cured
    before = {path: path.stat().st_mtime_ns for path in (folder / "study").glob("trials/*/*.json")}
    monkeypatch.chdir(folder)

    again = CliRunner().invoke(
        main,
        ["cure", "--study", str(folder / "study"), "--json", *OPTIONS],
    )

    assert json.loads(again.stdout) == plain
    after = {path: path.stat().st_mtime_ns for path in (folder / "study").glob("trials/*/*.json")}
    assert before == after


def test_page_says_the_verdict_first_and_needs_nothing_from_elsewhere(cured):
    folder, _, _plain = cured
    page = (folder / "study" / "report.html").read_text()

    assert page.index("cures it") < page.index("<svg") < page.index("What was tried")
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("<circle") == 2 and 'class="added"' in page
    assert len(page) < 300_000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no-such.py"], "does not exist"),
        (["--metric", "no group", "growing.py"], "has no group"),
        (["--maximize", "growing.py"], "--maximize needs --metric"),
        (["--treatments", "magic", "growing.py"], "neither a family"),
    ],
)
def test_usage_errors_are_one_sentence(cured, monkeypatch, tmp_path, arguments, said):
    folder, _, _ = cured
    monkeypatch.chdir(folder)

    ended = CliRunner().invoke(main, ["cure", "--study", str(folder / "study"), *arguments])

    assert ended.exit_code == 2
    assert said in " ".join(ended.stderr.split())


def test_progress_counts_the_diagnosis_once(cured):
    _, ended, _plain = cured

    counted = [line[:4].strip() for line in ended.stderr.splitlines() if "%" in line[:4]]

    assert counted == ["?%", "50%", "75%", "100%"]


def test_command_printed_at_ctrl_c_goes_on_to_the_table_of_an_undisturbed_study(cured, tmp_path):
    (tmp_path / "growing.py").write_text(HOLDING + GROWING)
    (tmp_path / "hold").touch()
    runs = tmp_path / "runs"
    driver = started(tmp_path, sys.executable, "-m", "gradreach", "cure", *OPTIONS)
    while not (runs.exists() and len(runs.read_text().split()) == 3):
        assert driver.poll() is None
        time.sleep(0.02)

    told = interrupted(driver)
    (study,) = (tmp_path / "gradreach-runs").iterdir()
    kept = len(list(study.glob("trials/*/result.json")))
    (tmp_path / "hold").unlink()
    code = again(tmp_path, told)

    assert (kept, code) == (2, 1)
    assert table_of(study) == table_of(cured[0] / "study")
    assert len(runs.read_text().split()) == 5  # four trials, one of them begun twice
    assert list((tmp_path / "gradreach-runs").iterdir()) == [study]


@pytest.mark.slow
@pytest.mark.parametrize("after", [0.1, 0.8, 2.0, 3.5, 5.0, 6.5])
def test_ctrl_c_at_any_moment_leaves_what_can_be_taken_up(cured, tmp_path, after):
    (tmp_path / "growing.py").write_text(HOLDING + GROWING)
    driver = started(
        tmp_path, sys.executable, "-c", "import gradreach.cli; print(flush=True); "
        "gradreach.cli.main()", "cure", *OPTIONS,
    )  # fmt: skip
    assert driver.stdout is not None
    driver.stdout.readline()  # before this, Python itself answers
    time.sleep(after)

    if driver.poll() is None:
        assert again(tmp_path, interrupted(driver)) == 1

    (study,) = (tmp_path / "gradreach-runs").iterdir()
    assert table_of(study) == table_of(cured[0] / "study")
    assert len(list(study.glob("trials/*/result.json"))) == 4
    assert len((tmp_path / "runs").read_text().split()) <= 5
