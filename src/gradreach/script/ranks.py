"""Which of the processes of a distributed run this one is."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from typing import NoReturn

__all__ = ["end_stopped_rank", "is_first_rank", "is_one_of_many"]


def is_first_rank() -> bool:
    """Whether this process is rank 0, or no part of a distributed run.

    Example:
        >>> is_first_rank()
        True
    """
    rank = os.environ.get("RANK", "")  # as torchrun sets it
    return not (rank.isdecimal() and int(rank) > 0)


def is_one_of_many() -> bool:
    """Whether a launcher has started other processes beside this one.

    Example:
        >>> is_one_of_many()
        False
    """
    size = os.environ.get("WORLD_SIZE", "")
    return "RANK" in os.environ and size.isdecimal() and int(size) > 1


def end_stopped_rank(code: int) -> NoReturn:
    """End a rank whose script was stopped before it took down its process group.

    Threads of torch's live on, and one that meets the end of the interpreter aborts the process:
    on a busy machine one in nine plain scripts that end so. ``destroy_process_group`` does not
    help. Hence all that Python does at an exit, but for that end.
    """
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or none
            stream.flush()
    os._exit(code)
