"""The study folder: nothing counted twice, nothing damaged believed, one driver at a time."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gradreach.records.trial import Trial
from gradreach.trials.key import identity_of, key_of
from gradreach.trials.metric import Metric, MetricError
from gradreach.trials.result_file import BrokenResultError, decoded, encoded
from gradreach.trials.sources import named_files, own_modules
from gradreach.trials.spec import SpecError, TrialSpec
from gradreach.trials.study import Study, StudyError, opened_study
from gradreach.trials.target import ScriptTarget, TargetError, target_of


@pytest.fixture
def script(tmp_path) -> Path:
    folder = tmp_path / "user"
    (folder / "package").mkdir(parents=True)
    (folder / "train.py").write_text("import model, torch\nfrom package import part\n")
    (folder / "model.py").write_text("from . import layers\nimport json\n")
    (folder / "layers.py").write_text("")
    (folder / "package" / "__init__.py").write_text("")
    (folder / "package" / "part.py").write_text("")
    (folder / "unrelated.py").write_text("")
    (folder / "data.csv").write_text("1,2\n")
    return folder / "train.py"


def spec_of(script: Path, **changes: object) -> TrialSpec:
    target = ScriptTarget(path="train.py", args=("--data=data.csv",), cwd=str(script.parent))
    return replace(TrialSpec(target=target), **changes)


def finished(metric: float = 0.5, **changes: object) -> Trial:
    return Trial(
        **({"treatment": "control", "seed": 0, "outcome": "finished", "metric": metric} | changes)
    )


def test_files_of_a_script_are_its_modules_and_those_named_in_its_arguments(script):
    names = {path.relative_to(script.parent).as_posix() for path in own_modules(script)}

    assert names == {"train.py", "model.py", "layers.py", "package/__init__.py", "package/part.py"}
    assert named_files(["--data=data.csv", "x" * 5000, "\0"], str(script.parent)) == [
        script.parent / "data.csv"
    ]


@pytest.mark.parametrize("name", ["train.py", "layers.py", "data.csv", "package/part.py"])
def test_key_changes_with_every_file_that_decides_the_result(script, name):
    before = key_of(spec_of(script))

    file = script.parent / name
    file.write_text(file.read_text() + "# changed\n")

    assert key_of(spec_of(script)) != before


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"budget": 10},
        {"threads": 2},
        {"needs_lag": 40},
        {"label": "a", "treatment": {"treatment": "gating"}},
        {"metric": Metric(kind="log", pattern="accuracy", direction="maximize")},
    ],
)
def test_key_changes_with_everything_that_decides_the_result(script, changes):
    assert key_of(spec_of(script, **changes)) != key_of(spec_of(script))


def test_key_stays_with_what_does_not_decide_it(script):
    (script.parent / "unrelated.py").write_text("changed = 1\n")

    assert key_of(spec_of(script, timeout=5.0, memory=2**30)) == key_of(spec_of(script))


def test_results_are_kept_once_each(script, tmp_path):
    study, spec = Study(tmp_path / "study", spec_of(script)), spec_of(script)
    study.commit(spec, finished(0.5))
    study.commit(spec, finished(0.7))  # of a worker that was believed dead

    again = Study(tmp_path / "study", spec)
    found = again.result_of(spec)
    assert found is not None and found.metric == 0.5
    assert again.missing([spec, spec, replace(spec, seed=1)]) == [replace(spec, seed=1)]
    assert len(list((tmp_path / "study").glob("trials/*/result.json"))) == 1


@pytest.mark.parametrize("keep", [0, 10, -30])
def test_broken_result_is_run_again_and_said(script, tmp_path, keep):
    study, spec = Study(tmp_path / "study", spec_of(script)), spec_of(script)
    study.commit(spec, finished())
    file = study.folder_of(spec) / "result.json"
    file.write_bytes(file.read_bytes()[:keep])

    assert study.missing([spec]) == [spec]
    assert study.broken[0].startswith("control, seed 0: the result was damaged")


def test_flipped_bits_never_give_another_result():
    text = encoded(finished(0.123456)).encode()
    draw = random.Random(0)
    for _ in range(400):
        damaged = bytearray(text)
        damaged[draw.randrange(len(text))] ^= 1 << draw.randrange(8)
        try:
            found = decoded(bytes(damaged))
        except BrokenResultError:
            continue
        assert found.to_dict() == finished(0.123456).to_dict()  # a space, say


def test_failure_for_a_limit_counts_until_the_limit_is_wider(script, tmp_path):
    spec = spec_of(script, timeout=10.0)
    study = Study(tmp_path / "study", spec)
    late = finished(math.nan, outcome="timed-out", meta={"timeout": 10.0})
    study.commit(spec, late)

    assert study.missing([spec]) == []
    assert study.missing([replace(spec, timeout=5.0)]) == []
    assert len(study.missing([replace(spec, timeout=20.0)])) == 1
    assert len(study.missing([replace(spec, timeout=None)])) == 1


def test_study_of_a_changed_script_is_refused(script, tmp_path):
    Study(tmp_path / "study", spec_of(script))
    script.write_text("print('another')\n")

    with pytest.raises(StudyError, match="the script, or a file that it uses, has changed since"):
        Study(tmp_path / "study", spec_of(script))


def test_study_of_another_metric_is_refused(script, tmp_path):
    Study(tmp_path / "study", spec_of(script))

    with pytest.raises(StudyError, match=r"something else \(it differs in metric\)"):
        Study(tmp_path / "study", spec_of(script, metric=Metric(direction="maximize")))


def test_folder_of_something_else_is_refused(script, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").touch()

    with pytest.raises(StudyError, match="is not empty and holds no study"):
        Study(tmp_path / "full", spec_of(script))


def test_second_driver_is_refused_and_told_who_the_first_is(script, tmp_path):
    with opened_study(tmp_path / "study", spec_of(script)):
        program = (
            "from gradreach.trials.study import Study, opened_study\n"
            "from gradreach.trials.spec import TrialSpec\n"
            "from gradreach.trials.target import ScriptTarget\n"
            f"target = ScriptTarget(path='train.py', args=('--data=data.csv',), "
            f"cwd={str(script.parent)!r})\n"
            f"with opened_study({str(tmp_path / 'study')!r}, TrialSpec(target=target)): pass\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=False
        )

    assert done.returncode == 1
    assert f"is being run by pid {os.getpid()} on host" in done.stderr
    with opened_study(tmp_path / "study", spec_of(script)):
        pass  # free again


def test_study_without_a_folder_leaves_nothing(script):
    with opened_study(None, spec_of(script)) as study:
        kept = study.path
        study.commit(spec_of(script), finished())

    assert not kept.exists()


def test_what_a_study_holds_is_plain_data_and_never_imported(script, tmp_path):
    study = Study(tmp_path / "study", spec_of(script))
    study.prepare(spec_of(script))

    assert (
        identity_of(spec_of(script))["files"][str(script)] in (study.path / "spec.json").read_text()
    )
    with pytest.raises(TargetError, match="argument 'kwargs' must be plain data"):
        target_of(spec_of, {"a": object()})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": -1}, "argument 'seed' must be in 0"),
        ({"budget": 0}, "argument 'budget' must be > 0 optimizer steps; got 0"),
        ({"needs_lag": 0}, "argument 'needs_lag' must be > 0 time steps; got 0"),
        ({"label": "gating"}, "the label 'control' is that of no treatment"),
    ],
)
def test_spec_that_cannot_be_run_is_refused(script, changes, words):
    with pytest.raises(SpecError, match=words):
        spec_of(script, **changes)


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ({"kind": "regex", "pattern": "loss"}, "has no group: put the number in brackets"),
        ({"kind": "regex", "pattern": "("}, "is no regular expression"),
        ({"kind": "best"}, "argument 'kind' must be one of loss, regex, log, returned"),
    ],
)
def test_metric_that_gives_no_number_is_refused(metric, words):
    with pytest.raises(MetricError, match=words):
        Metric(**metric)
