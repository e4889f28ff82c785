"""What every test stands on: fixed seeds, named skips, and the tests that opt in.

Importing this file does not import torch, so that collecting the tests of the repository's
shape stays quick.
"""

from __future__ import annotations

import random
import signal
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

import hypothesis
import pytest

# Training scripts as users write them: run in processes of their own, never imported here.
collect_ignore_glob = ["scripts/*.py", "cure_scripts/*.py"]

SEED = 20130616  # the week of ICML 2013, where the difficulty was analysed; any number would do

Lacks = Callable[[str], NoReturn]

# deadline: the machines are shared and noisy, a slow example proves nothing.
# derandomize: a red run must be red again when it is looked into.
hypothesis.settings.register_profile("gradreach", deadline=None, derandomize=True)
hypothesis.settings.load_profile("gradreach")


def pytest_configure() -> None:
    """Let interrupts through to the processes that tests start.

    Where the suite itself runs in the background (`&` in a script, some CI runners) SIGINT is
    ignored, children inherit that, and one that a test interrupts would run for ever.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gradreach")
    group.addoption(
        "--require-all",
        action="store_true",
        help="fail the tests that would be skipped because the machine lacks something",
    )
    group.addoption("--slow", action="store_true", help="run the tests marked slow, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the slow tests out unless they were asked for: by --slow, -m, or their own name."""
    named = any("::" in argument for argument in config.args)
    if config.getoption("--slow") or config.getoption("markexpr") or named:
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in set(slow)]


@pytest.fixture(autouse=True)
def seeds() -> None:
    """Give every test, alone or in any order, the same random numbers."""
    import numpy as np
    import torch

    random.seed(SEED)
    np.random.seed(SEED % 2**32)
    torch.manual_seed(SEED)


@pytest.fixture(autouse=True)
def nothing_compiled() -> Iterator[None]:
    """Leave no compiled code to the next test: while there is some, no update is probed."""
    yield
    frames = sys.modules.get("torch._dynamo.convert_frame")
    if frames is not None and frames.input_codes.seen:
        import torch

        torch._dynamo.reset()


@pytest.fixture
def lacks(request: pytest.FixtureRequest) -> Lacks:
    """Skip because the machine lacks something, in one named line; --require-all makes it red.

    Usage: ``if shutil.which("chromium") is None: lacks("Chromium")``.
    """

    def lacks(what: str) -> NoReturn:
        if request.config.getoption("--require-all"):
            pytest.fail(f"machine lacks {what} (--require-all)", pytrace=False)
        pytest.skip(f"machine lacks {what}")

    return lacks


@pytest.fixture(autouse=True)
def gpu(request: pytest.FixtureRequest) -> None:
    """Let a test marked `gpu` start only where there is one."""
    if request.node.get_closest_marker("gpu") is None:
        return
    import torch

    if not torch.cuda.is_available():
        lacks: Lacks = request.getfixturevalue("lacks")
        lacks("a GPU")
