"""The process that trials are forked from: torch imported, nothing started.

A fresh Python takes seconds to import torch and what an optimizer needs of it; a fork of one that
has done so takes milliseconds, and is as fresh: no thread pool runs yet, no random number has been
drawn, no module of the user is loaded. Talks with its driver in lines of JSON over the pipes it
was started with, and ends, with all trials, when the driver's end of the pipe is closed.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import sys
import time
import weakref
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

from gradreach.trials.oom import kills_for_memory
from gradreach.trials.parked_process import ParkedProcess

__all__ = ["serve"]

# Imported once, so that no trial has to. torch's compiler is among them because the first
# optimizer of a process imports it, which takes as long as torch itself.
HEAVY = (
    "torch",
    "torch.optim",
    "torch.utils.data",
    "torch._dynamo",
    "gradreach.trials.run",
    "gradreach.monitor.session",
    "gradreach.flow.measure",
    "gradreach.nn",
)


@dataclass
class _Running:
    """One trial that has been forked."""

    name: int
    begun: float
    deadline: float | None
    kills_before: int
    timed_out: bool = False
    written: int = -1  # descriptor that becomes readable when the result is there


def serve() -> NoReturn:
    """Import what is heavy, then fork a trial for each request until the driver is gone."""
    begun = time.perf_counter()
    requests, replies = _own_pipes()
    gc.disable()  # imports make a million objects that stay: looking for waste takes a third more
    for name in HEAVY:
        importlib.import_module(name)
    _leave_ends_to_users()
    gc.freeze()  # or each trial's first collection would copy every page that the fork shares
    server = _Server(requests, replies)
    server.say({"ready": time.perf_counter() - begun})
    try:
        server.loop()
    finally:
        server.end_all()
    os._exit(0)


def _leave_ends_to_users() -> None:
    """Have a trial's end run what was registered in the trial, and nothing of before.

    torch takes its operators back at the end of a Python: 50 ms a trial, for nobody.
    """
    for finalizer in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        finalizer.atexit = False


def _own_pipes() -> tuple[int, BinaryIO]:
    """Keep the pipes for ourselves: what is printed here or in a trial must not get into them."""
    requests, replies = os.dup(0), os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, replies


class _Server:
    def __init__(self, requests: int, replies: BinaryIO) -> None:
        self.requests, self.replies = requests, replies
        self.running: dict[int, _Running] = {}
        self.unread = b""
        self.parked: ParkedProcess | None = None
        self.selector = selectors.DefaultSelector()
        self.woken, self.waker = os.pipe()
        os.set_blocking(self.waker, False)
        os.set_blocking(self.woken, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # a handler, so that the pipe is written
        signal.set_wakeup_fd(self.waker, warn_on_full_buffer=False)

    def say(self, reply: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # seen as the end of the requests
            self.replies.write(json.dumps(reply).encode() + b"\n")

    def loop(self) -> None:
        with self.selector:
            self.selector.register(self.requests, selectors.EVENT_READ)
            self.selector.register(self.woken, selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in self.selector.select(self._patience())}
                if self.woken in ready:
                    os.read(self.woken, 4096)
                self._hear(ready)
                self._reap()
                self._end_late()
                if self.requests in ready and not self._take_requests():
                    return

    def _patience(self) -> float | None:
        """Return the seconds until the first trial runs out of time."""
        late = [each.deadline for each in self.running.values() if each.deadline is not None]
        return max(0.0, min(late) - time.monotonic()) if late else None

    def _take_requests(self) -> bool:
        """Do what is asked; false when the driver is gone."""
        got = os.read(self.requests, 1 << 16)
        *lines, self.unread = (self.unread + got).split(b"\n")
        for line in lines:
            request = json.loads(line)
            if "start" in request:
                self._start(request)
            else:
                self._kill(request["kill"])
        return bool(got)

    def _start(self, request: dict[str, Any]) -> None:
        kills, begun = kills_for_memory(), time.monotonic()
        timeout = request["timeout"]
        parked, self.parked = self.parked, None
        if parked is None or not parked.begin(request):
            parked = ParkedProcess(self._leave)
            parked.begin(request)
        deadline = None if timeout is None else begun + timeout
        self.running[parked.pid] = _Running(
            request["start"], begun, deadline, kills, written=parked.written
        )
        self.selector.register(parked.written, selectors.EVENT_READ)
        self.parked = ParkedProcess(self._leave)  # while this one computes

    def _leave(self) -> None:
        """In a trial: let go of everything that is the server's."""
        gc.enable()
        signal.set_wakeup_fd(-1)
        others = [trial.written for trial in self.running.values() if trial.written >= 0]
        own = (self.requests, self.replies.fileno(), self.woken, self.waker)
        self.selector.close()  # of this process: the server's own goes on
        for descriptor in (*own, *others):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _hear(self, ready: set[int]) -> None:
        """Pass on which results are there; the ends of their processes take a while yet."""
        for trial in self.running.values():
            if trial.written in ready:
                self._listen_no_more(trial)
                self.say({"written": trial.name})

    def _listen_no_more(self, trial: _Running) -> None:
        if trial.written >= 0:
            self.selector.unregister(trial.written)
            os.close(trial.written)
            trial.written = -1

    def _reap(self) -> None:
        for pid in list(self.running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                trial = self.running.pop(pid)
                self._listen_no_more(trial)
                _end_group(pid)  # what it left behind: a data loader's workers, say
                code = os.waitstatus_to_exitcode(status)
                lacking = kills_for_memory() > trial.kills_before
                self.say({
                    "ended": trial.name, "code": code, "timed_out": trial.timed_out,
                    "for_memory": code == -signal.SIGKILL and lacking,
                    "seconds": time.monotonic() - trial.begun,
                })  # fmt: skip

    def _end_late(self) -> None:
        now = time.monotonic()
        for pid, trial in self.running.items():
            if trial.deadline is not None and now >= trial.deadline:
                trial.timed_out, trial.deadline = True, None
                _end_group(pid)

    def _kill(self, name: int) -> None:
        for pid, trial in self.running.items():
            if trial.name == name:
                _end_group(pid)

    def end_all(self) -> None:
        if self.parked is not None:
            self.parked.let_go()
        for pid in self.running:
            _end_group(pid)


def _end_group(pid: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit("started by gradreach.trials.worker, with pipes")
