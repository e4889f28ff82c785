"""What only skorch and scikit-learn ask of a callback."""

from __future__ import annotations

import pytest
from tests.integrations.drives import STEPS, Training, drive_skorch

from gradreach.integrations.skorch import WatchCallback


def test_parameters_are_the_options():
    callback = WatchCallback(every=10, needs_lag=5)

    assert callback.get_params() == {"every": 10, "needs_lag": 5}
    assert callback.initialize() is callback


def test_parameters_set_later_hold_for_the_next_training():
    callback = WatchCallback()

    assert callback.set_params(cost="full") is callback
    drive_skorch(callback, Training())

    assert len(callback.history.samples) == STEPS


def test_parameters_set_later_are_checked():
    with pytest.raises(ValueError, match="argument 'every' must be"):
        WatchCallback().set_params(every=0)


def test_clone_for_a_search_is_the_callback():
    callback = WatchCallback()

    assert callback.__sklearn_clone__() is callback
