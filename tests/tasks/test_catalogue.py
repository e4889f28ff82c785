"""Tasks by name."""

from __future__ import annotations

import pytest

from gradreach.tasks.catalogue import TASKS, task_named


@pytest.mark.parametrize("name", TASKS)
def test_default_length_is_in_the_ladder_of_the_task(name: str) -> None:
    task = task_named(name)

    assert task.steps >= 30 and task.variant


@pytest.mark.parametrize(
    ("name", "length", "says"),
    [
        ("add", None, "'name' must be one of first_bit, adding"),
        ("adding", 0, "'length' must be at least 1; got 0"),
        ("pixel_digits", 100, "can only be 64"),
        ("temporal_order", 5, "'steps' must be a whole number of at least 10; got 5"),
    ],
)
def test_what_there_is_not_is_refused(name: str, length: int | None, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        task_named(name, length)
