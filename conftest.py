"""For the tests and for the examples in docstrings alike: none leaves torch listened to."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def optimizers_are_known() -> None:
    """Let torch wrap each class's ``step``, which it does at the first instance, before any test.

    Where that instance is built under an interception, the interception stays inside for good.
    """
    torch = sys.modules.get("torch")
    if torch is not None:
        for kind in ("SGD", "Adam", "AdamW", "RMSprop", "LBFGS"):
            getattr(torch.optim, kind)([torch.zeros(1, requires_grad=True)], lr=0.1)


@pytest.fixture(autouse=True)
def nothing_listens_on() -> Iterator[None]:
    """End what treatments of built objects hear of backward passes: a process long, otherwise."""
    yield
    listener = sys.modules.get("gradreach.treatments.pass_listener")
    if listener is not None:
        listener.stop_listening()
