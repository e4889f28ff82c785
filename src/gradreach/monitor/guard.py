"""Runs our own work inside somebody else's training, so that it cannot disturb it."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["Guard"]


class Guard:
    """Calls our functions; the first exception of theirs is kept and ends them all.

    ``KeyboardInterrupt`` and ``SystemExit`` are the user's and pass.

    Args:
        on_fault: Called once, when something of ours has failed.

    Attributes:
        aside: Seconds that the watch took elsewhere, once: to start and to report.
        fault: The traceback of that failure, as text: the exception itself would keep every
            tensor in its frames alive.

    Example:
        >>> guard = Guard(on_fault=lambda: print("off"))
        >>> guard(lambda: 1 / 0)
        off
        >>> guard.fault.splitlines()[-1]
        'ZeroDivisionError: division by zero'
        >>> guard(print, "not called any more")
    """

    def __init__(self, on_fault: Callable[[], None]) -> None:
        self.on_fault = on_fault
        self.fault: str | None = None
        self.aside = 0.0
        self._seconds = 0.0
        self._since: float | None = None

    @property
    def seconds(self) -> float:
        """Time spent in here so far, also by the call that is running."""
        return self._seconds + (0.0 if self._since is None else time.perf_counter() - self._since)

    def __call__(self, work: Callable[..., object], *args: Any) -> None:
        """Do some work; a call from within another one is not timed twice."""
        # While torch.compile looks at a hook of ours it must find nothing in it.
        if torch.compiler.is_compiling() or self.fault is not None:
            return
        outermost = self._since is None
        if outermost:
            self._since = time.perf_counter()
        try:
            work(*args)
        except Exception as error:  # noqa: BLE001  never into the user's pass
            self.fail("".join(traceback.format_exception(error)))
        finally:
            if outermost:
                self._seconds, self._since = self.seconds, None

    def insist(self, undo: Callable[[], object]) -> None:
        """Take something of ours back, which must happen whatever is broken: twice, if need be."""
        try:
            undo()
        except Exception as error:  # noqa: BLE001  the next thing is to be taken back, too
            self.fail("".join(traceback.format_exception(error)))
            with contextlib.suppress(Exception):
                undo()

    def fail(self, told: str) -> None:
        """Note a failure and end the watch."""
        if self.fault is None:
            self.fault = told
            with contextlib.suppress(Exception):  # it is ending because something is broken
                self.on_fault()
