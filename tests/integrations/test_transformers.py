"""What only Hugging Face's Trainer asks of a callback."""

from __future__ import annotations

from tests.integrations.drives import STEPS, Training, drive_transformers

from gradreach.integrations.transformers import WatchCallback


def test_other_processes_watch_and_write_nothing(tmp_path):
    folder = tmp_path / "a"
    callback = WatchCallback(run=folder)

    drive_transformers(callback, Training(), is_world_process_zero=False)

    assert len(callback.history) == STEPS
    assert not folder.exists()


def test_training_from_a_checkpoint_goes_on_in_the_curves_of_the_loggers():
    steps = []
    callback = WatchCallback(loggers=[lambda numbers, step: steps.append(step)], cost="full")

    drive_transformers(callback, Training(), global_step=500)

    assert steps == list(range(500, 500 + STEPS))
