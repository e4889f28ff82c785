"""For the tests and for the examples in docstrings alike: none leaves torch listened to."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def nothing_listens_on() -> Iterator[None]:
    """End what treatments of built objects hear of backward passes: a process long, otherwise."""
    yield
    listener = sys.modules.get("gradreach.treatments.pass_listener")
    if listener is not None:
        listener.stop_listening()
