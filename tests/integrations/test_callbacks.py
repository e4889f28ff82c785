"""What holds for the callback of every framework, called in that framework's order."""

from __future__ import annotations

import ast
import copy
import gc
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.integrations.drives import DRIVES, STEPS, Training, hooks

import gradreach as gr
from gradreach.integrations import attachment

FILES = sorted(Path(attachment.__file__).parent.glob("*.py"))

each_framework = pytest.mark.parametrize(("make", "drive"), DRIVES.values(), ids=DRIVES)


def watched_loop():
    """Return the history of the same training in a plain loop."""
    training = Training()
    with gr.watch(training.model, training.optimizer, cost="full") as watched:
        for _ in range(STEPS):
            training.step()
    return watched.history, training


@each_framework
def test_callback_sees_what_a_watched_loop_sees(make, drive):
    history, twin = watched_loop()
    callback, training = make(cost="full"), Training()

    drive(callback, training)

    assert callback.trouble is None
    for column in ("gradient_norm", "clipped_norm", "update_norm", "loss", "learning_rate"):
        np.testing.assert_array_equal(callback.history[column], history[column])
    # As torch's clipping told it, in float32.
    np.testing.assert_allclose(callback.history["gradient_norm"], twin.norms, rtol=1e-6)
    assert (callback.history["clipped_norm"] < callback.history["gradient_norm"]).any()
    reaches = [sample.layers["lstm.l0"].reach for sample in callback.history.samples]
    assert reaches == [sample.layers["lstm.l0"].reach for sample in history.samples]
    assert len(reaches) == STEPS


@each_framework
def test_training_is_the_same_with_the_callback(make, drive):
    alone, watched = Training(), Training()
    for _ in range(STEPS):
        alone.step()

    drive(make(cost="full"), watched)

    for weight, other in zip(alone.model.parameters(), watched.model.parameters(), strict=True):
        assert torch.equal(weight, other)


@each_framework
def test_no_hook_is_left_behind(make, drive):
    before = list(hooks())

    drive(make(), Training())

    assert list(hooks()) == before


@each_framework
def test_training_that_raises_leaves_no_hook_once_the_callback_is_gone(make, drive):
    before, callback = list(hooks()), make()
    with pytest.raises(ZeroDivisionError, match="own failure"):
        drive(callback, Training(raises_at=2))
    assert len(callback.watches) == 1

    del callback
    gc.collect()

    assert list(hooks()) == before


@each_framework
def test_watch_of_a_training_that_raised_can_be_ended_by_hand(make, drive):
    before, callback = list(hooks()), make()
    with pytest.raises(ZeroDivisionError):
        drive(callback, Training(raises_at=2))

    callback.end()

    assert callback.history["step"].tolist() == [0, 1]
    assert list(hooks()) == before


@each_framework
def test_next_training_ends_the_watch_of_one_that_raised(make, drive):
    before, callback = list(hooks()), make()
    with pytest.raises(ZeroDivisionError):
        drive(callback, Training(raises_at=2))

    drive(callback, Training())

    assert [len(watch.history) for watch in callback.watches] == [2, STEPS]
    assert list(hooks()) == before


@each_framework
def test_copy_of_a_callback_is_the_callback(make, drive):
    callback = make()

    assert copy.copy(callback) is callback
    assert copy.deepcopy({"callbacks": [callback]})["callbacks"][0] is callback


@each_framework
def test_pickled_callback_has_the_options_and_no_watch(make, drive):
    callback = make(cost="full")
    drive(callback, Training())

    twin = pickle.loads(pickle.dumps(callback))
    drive(twin, Training())

    assert len(twin.watches) == 1
    assert len(twin.history.samples) == STEPS


@each_framework
def test_wrong_arguments_are_told_before_training(make, drive):
    with pytest.raises(TypeError, match="unknown argument 'evry'; it takes .* run, every, cost"):
        make(evry=3)
    with pytest.raises(ValueError, match="argument 'cost' must be one of"):
        make(cost="cheap")


@each_framework
def test_history_before_a_training_is_refused(make, drive):
    with pytest.raises(RuntimeError, match="no training has begun with this callback"):
        make().history  # noqa: B018


@each_framework
def test_attributes_of_a_framework_do_not_collide(make, drive):
    own = [name for name in vars(make()) if not name.startswith("_gradreach_")]

    assert own == []


@each_framework
def test_second_training_has_a_run_folder_of_its_own(make, drive, tmp_path):
    callback = make(run=tmp_path / "runs" / "a")

    drive(callback, Training())
    drive(callback, Training())

    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["a", "a-2"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_adapter_imports_no_framework(path):
    lines = list(ast.walk(ast.parse(path.read_text())))
    names = [line.module for line in lines if isinstance(line, ast.ImportFrom)]
    names += [each.name for line in lines if isinstance(line, ast.Import) for each in line.names]

    roots = {name.partition(".")[0] for name in names}

    assert roots <= {"gradreach", "torch", *sys.stdlib_module_names}
