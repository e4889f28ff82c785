"""What only Stable-Baselines3 asks of a callback."""

from __future__ import annotations

import pytest

from gradreach.integrations.sb3 import WatchCallback


def test_callback_that_is_not_in_a_list_is_refused():
    # learn() takes it for a function of the two tables of variables, and calls it so.
    with pytest.raises(TypeError, match=r"write callback=\[callback\]"):
        WatchCallback()({}, {})


def test_steps_of_the_environment_go_on():
    assert WatchCallback().on_step() is True
