"""What a forked trial does from its first to its last moment."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["as_fresh_process"]

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def as_fresh_process(
    awaited: Callable[[], dict[str, Any] | None], written: Callable[[], None], parent: int
) -> NoReturn:
    """Turn this fork into a process of its own, run its trial, write the result, and end.

    Args:
        awaited: Returns what the driver asks for, when it does: ``spec``, ``folder``, ``log``,
            ``memory``, ``sys_path``; ``None`` where nothing will be asked.
        written: Called once the result is there.
        parent: Process id of the server.
    """
    code = 1
    try:
        _stand_alone(parent)
        request = awaited()
        if request is None:
            os._exit(0)
        _redirect(request["log"])
        _limit_memory(request["memory"])
        code = _run(request, written)
    except BaseException:  # noqa: BLE001  the last handler of this process
        with contextlib.suppress(BaseException):
            traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _run(request: dict[str, Any], written: Callable[[], None]) -> int:
    from gradreach.trials.result_file import write_result
    from gradreach.trials.run import run_trial
    from gradreach.trials.spec import TrialSpec

    spec = TrialSpec.from_dict(request["spec"])
    os.chdir(spec.target.cwd)
    if request["sys_path"] is not None:
        sys.path[:] = request["sys_path"]
    trial = run_trial(spec)
    write_result(Path(request["folder"]), trial)
    written()
    # A fork that leaves by os._exit skips what a Python does at its end; the user's code may
    # count on it. The result is written before: what hangs here costs time, not the trial.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    return 0


def _stand_alone(parent: int) -> None:
    """Have a process group of its own, default signals, and end with the server."""
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before we asked
            os._exit(1)


def _redirect(log: str) -> None:
    """Send what is printed, by whatever code, into the log; read nothing."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
    for descriptor, place in ((nothing, 0), (file, 1), (file, 2)):
        os.dup2(descriptor, place)
    os.close(nothing)
    os.close(file)
    # A script that prints in vain must not fail for a character that the log cannot hold.
    streams = {
        "stdin": open(0, encoding="utf-8", closefd=False),  # noqa: SIM115  open as long as we are
        "stdout": open(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False),  # noqa: SIM115
        "stderr": open(  # noqa: SIM115
            2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False
        ),
    }
    for name, stream in streams.items():
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _limit_memory(limit: int | None) -> None:
    """Let every request for memory fail that goes beyond what there is now plus ``limit``.

    RLIMIT_DATA counts private writable memory and no mapped files; where the system does not
    tell how much of it there is (no /proc), nothing is limited.
    """
    if limit is None:
        return
    import resource

    with contextlib.suppress(OSError, StopIteration, ValueError):
        told = Path("/proc/self/status").read_text("ascii", errors="replace").splitlines()
        line = next(line for line in told if line.startswith("VmData:"))
        most = int(line.split()[1]) * 1024 + limit
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
