"""Tracebacks as a script's own run would have shown them."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

__all__ = ["last_line", "without_ours"]

PACKAGE = str(Path(__file__).resolve().parent.parent) + os.sep  # frames below it are ours


def without_ours(error: BaseException, script: str) -> None:
    """Cut our frames out of an exception's traceback and of those it arose from.

    A script that does not compile has no frame of its own, and Python shows none for it.

    Args:
        script: Absolute path of the script, whose frame is the first one shown.
    """
    seen: set[int] = set()
    queue = [error]
    for each in queue:
        if id(each) in seen:
            continue
        seen.add(id(each))
        outermost = each is error
        each.__traceback__ = _cut(each.__traceback__, script, begun=not outermost)
        queue += [other for other in (each.__cause__, each.__context__) if other is not None]
        if isinstance(each, BaseExceptionGroup):
            queue += each.exceptions


def last_line(trace: TracebackType | None, script: str) -> str:
    """Return ``train.py:42``, the script's line that was running, or an empty string."""
    line = 0
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == script:
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"{Path(script).name}:{line}" if line else ""


def _cut(trace: TracebackType | None, script: str, *, begun: bool) -> TracebackType | None:
    frames: list[TracebackType] = []
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        begun = begun or name == script
        # The script itself may lie below our folder: the examples do.
        if begun and (name == script or not name.startswith(PACKAGE)):
            frames.append(trace)
        trace = trace.tb_next
    shown: TracebackType | None = None
    for frame in reversed(frames):
        shown = TracebackType(shown, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return shown
