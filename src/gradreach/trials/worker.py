"""The driver's side of a fork server: start trials, hear of their ends."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from gradreach.errors import GradreachError
from gradreach.trials.spec import TrialSpec
from gradreach.trials.target import FunctionTarget

__all__ = ["Ended", "Worker", "WorkerError", "WorkerGoneError"]

PACKAGE = str(Path(__file__).resolve().parents[2])
# Appended, not put in front: it must not hide a module that the user's code imports.
PROGRAM = (
    f"import sys; sys.path.append({PACKAGE!r}); "
    "from gradreach.trials.fork_server import serve; serve()"
)
START = 120.0  # seconds; a cold disk needs some twenty


class WorkerError(GradreachError, RuntimeError):
    """No process for trials can be started."""


class WorkerGoneError(WorkerError):
    """The process that trials are forked from has ended, and with it the trials that ran."""


@dataclass(frozen=True)
class Ended:
    """How a trial's process ended.

    Attributes:
        name: Number that it was started with. code: Exit code; minus the signal that ended it.
        timed_out: We ended it. for_memory: The system ended it for lack of memory.
        seconds: From its fork to its end.
    """

    name: int
    code: int
    timed_out: bool = False
    for_memory: bool = False
    seconds: float = 0.0


class Worker:
    """One fork server; it starts importing at once, and the first trial waits for it.

    Args:
        threads: Of whatever computes in the trials: set before anything is imported, as a user
            does with ``OMP_NUM_THREADS``.

    Raises:
        WorkerError: No Python can be started.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.ready: float | None = None
        """Seconds that the imports took."""
        self.ending: set[int] = set()
        """Trials whose results are there, and whose processes are about to end."""
        self._unread = b""
        self._started = 0
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=_environment(threads),
                start_new_session=True,  # Ctrl-C is for the driver, which ends the trials itself
            )
        except OSError as error:
            raise WorkerError(f"cannot start a process for trials: {error.strerror}") from error

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._process.pid

    def start(
        self, spec: TrialSpec, folder: Path, log: Path, sys_path: list[str] | None = None
    ) -> int:
        """Fork a trial; returns the number by which its end is told.

        Args:
            spec: The trial. folder: Takes its result. log: Takes what it prints.
            sys_path: Where a function is imported from; by default where we do.

        Raises:
            WorkerGoneError: The server has ended.
        """
        self._started += 1
        # A script has the path that Python gives it.
        imports = isinstance(spec.target, FunctionTarget)
        own_path = (sys_path or list(sys.path)) if imports else None
        self._send({
            "start": self._started, "spec": spec.to_dict(), "folder": str(folder.resolve()),
            "log": str(log.resolve()), "timeout": spec.timeout, "memory": spec.memory,
            "sys_path": own_path,
        })  # fmt: skip
        return self._started

    def kill(self, name: int) -> None:
        """End a trial with all its children."""
        self._send({"kill": name})

    def wait(self, seconds: float) -> list[Ended]:
        """Return the trials that have ended, or nothing after so many seconds.

        Raises:
            WorkerGoneError: The server has ended.
        """
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(seconds):
                return []
        got = os.read(self._process.stdout.fileno(), 1 << 16)
        if not got:
            raise WorkerGoneError(f"the process for trials has ended ({self._process.wait()})")
        return list(self._told(got))

    def wait_until_ready(self) -> float:
        """Wait for the imports; returns the seconds they took."""
        until = time.monotonic() + START
        while self.ready is None and time.monotonic() < until:
            self.wait(until - time.monotonic())
        if self.ready is None:
            raise WorkerError(f"the process for trials did not get ready in {START:.0f} s")
        return self.ready

    def close(self) -> None:
        """End the server and every trial that still runs."""
        process = self._process
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        if self.ready is None:  # importing: it would read that we are gone only afterwards
            process.kill()
        try:
            process.wait(5.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, request: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError) as error:
            raise WorkerGoneError("the process for trials has ended") from error

    def _told(self, got: bytes) -> Iterator[Ended]:
        *lines, self._unread = (self._unread + got).split(b"\n")
        for line in lines:
            told = json.loads(line)
            if "ready" in told:
                self.ready = told["ready"]
            elif "written" in told:
                self.ending.add(told["written"])
            else:
                self.ending.discard(told["ended"])
                yield Ended(
                    told["ended"], told["code"], told["timed_out"], told["for_memory"],
                    told["seconds"],
                )  # fmt: skip


def _environment(threads: int) -> dict[str, str]:
    counts = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    # Sets of texts are walked in the order of their hashes, which Python draws anew each time.
    return os.environ | dict.fromkeys(counts, str(threads)) | {"PYTHONHASHSEED": "0"}
