"""What only Lightning asks of a callback."""

from __future__ import annotations

import pytest
from tests.integrations.drives import STEPS, Training, drive_lightning

from gradreach.integrations import darts, neuralforecast
from gradreach.integrations.lightning import WatchCallback


class Lines:
    """A logger in Lightning's shape."""

    def __init__(self):
        self.lines = []

    def log_metrics(self, metrics, step):
        self.lines.append((step, metrics))


def test_checkpoint_gets_nothing_that_needs_gradreach():
    callback = WatchCallback()

    assert callback.state_dict() == {}
    callback.load_state_dict({})
    assert callback.state_key == "gradreach.integrations.lightning.WatchCallback"
    assert callback._legacy_state_key is WatchCallback


def test_loggers_of_the_trainer_are_asked_for_by_a_word():
    logger = Lines()

    drive_lightning(WatchCallback(loggers="trainer", cost="full"), Training(), loggers=[logger])

    assert [step for step, _ in logger.lines] == list(range(STEPS))
    assert all("gradreach/gradient_norm" in metrics for _, metrics in logger.lines)


def test_loggers_of_the_trainer_get_nothing_unasked():
    logger = Lines()

    drive_lightning(WatchCallback(), Training(), loggers=[logger])

    assert logger.lines == []


def test_resumed_training_goes_on_in_the_curves_of_its_loggers():
    logger = Lines()

    callback = WatchCallback(loggers=[logger], cost="full")
    drive_lightning(callback, Training(), global_step=100)

    assert [step for step, _ in logger.lines] == list(range(100, 100 + STEPS))
    assert callback.history["step"].tolist() == list(range(STEPS))


def test_other_ranks_watch_and_write_nothing(tmp_path):
    logger, folder = Lines(), tmp_path / "a"
    callback = WatchCallback(run=folder, loggers=[logger])

    drive_lightning(callback, Training(), is_global_zero=False)

    assert len(callback.history) == STEPS
    assert logger.lines == []
    assert not folder.exists()


@pytest.mark.parametrize("module", [darts, neuralforecast])
def test_forecasting_libraries_train_in_lightning(module):
    callback = module.WatchCallback(cost="full")

    drive_lightning(callback, Training())

    assert len(callback.history) == STEPS
    assert callback.state_key == f"{module.__name__}.WatchCallback"
