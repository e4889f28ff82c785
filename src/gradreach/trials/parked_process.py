"""A process that has been forked ahead of the trial that it is going to run."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from typing import Any

from gradreach.trials.fresh_process import as_fresh_process

__all__ = ["ParkedProcess"]


class ParkedProcess:
    """Forked now, so that a trial need not wait for the fork of a process with torch in it.

    It waits for its request, and ends without one when the other end of its pipe is closed.

    Args:
        leave: Called in the fork: lets go of what is its parent's.

    Attributes:
        pid: Its process id, which is that of its process group, too.
        written: Becomes readable, at its end, once it has written its result, or has ended.
    """

    def __init__(self, leave: Callable[[], None]) -> None:
        parent = os.getpid()
        theirs, self._ours = os.pipe()
        self.written, note = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._ours)
            os.close(self.written)
            leave()
            as_fresh_process(lambda: _request_from(theirs), lambda: os.close(note), parent)
        os.close(theirs)
        os.close(note)
        with contextlib.suppress(OSError):  # both do it: neither knows who comes first
            os.setpgid(self.pid, self.pid)

    def begin(self, request: dict[str, Any]) -> bool:
        """Have it run a trial; false where it has ended, for lack of memory, say."""
        try:
            with os.fdopen(self._ours, "wb") as pipe:
                pipe.write(json.dumps(request).encode())
        except BrokenPipeError:
            os.waitpid(self.pid, 0)
            os.close(self.written)
            return False
        return True

    def let_go(self) -> None:
        """Close our end: it ends once all have done so."""
        with contextlib.suppress(OSError):
            os.close(self._ours)


def _request_from(pipe: int) -> dict[str, Any] | None:
    """Wait for the request; ``None`` where none will come."""
    with os.fdopen(pipe, "rb") as told:
        text = told.read()
    return json.loads(text) if text else None
