"""One trial on a node of a Ray cluster: the same fork server and the same process as at home."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradreach.errors import GradreachError
from gradreach.trials.key import identity_of
from gradreach.trials.result_file import FILE_NAME
from gradreach.trials.spec import TrialSpec
from gradreach.trials.worker import Ended, Worker, WorkerGoneError

__all__ = ["NodeError", "run_on_node"]

TAIL = 1 << 18  # bytes of a log that go back to the driver

# One fork server a process of Ray's and number of threads: Ray gives a process task after task.
_WORKERS: dict[int, Worker] = {}


class NodeError(GradreachError, RuntimeError):
    """A node has not what the trial needs, or something else of the same name."""


def run_on_node(
    plain: Mapping[str, Any], identity: Mapping[str, Any], sys_path: list[str]
) -> dict[str, Any]:
    """Run one trial here; return its result as text, or how its process ended, and its log.

    Nothing is kept on the node: the driver alone writes into the study, so that the nodes need
    no common disk, and a task that Ray has run twice counts once.

    Args:
        plain: The trial. identity: What its files and versions are at the driver's.
        sys_path: Where the driver imports from.

    Raises:
        NodeError: The files or versions differ here.
    """
    spec = TrialSpec.from_dict(plain)
    _check_identity(spec, identity)
    with tempfile.TemporaryDirectory(prefix="gradreach-trial-") as name:
        folder, log = Path(name), Path(name) / "log.txt"
        try:
            ended = _run(spec, folder, log, sys_path)
        except WorkerGoneError:  # it was killed, and the trial with it
            _WORKERS.pop(spec.threads).close()
            ended = Ended(0, -9)
        result = folder / FILE_NAME
        text = result.read_text(encoding="utf-8") if result.exists() else None
        return {
            "result": text,
            "ended": vars(ended),
            "log": _tail(log),
            "node": os.uname().nodename,
        }


def _run(spec: TrialSpec, folder: Path, log: Path, sys_path: list[str]) -> Ended:
    worker = _WORKERS.get(spec.threads)
    if worker is None:
        worker = _WORKERS[spec.threads] = Worker(spec.threads)
    number = worker.start(spec, folder, log, sys_path)
    try:
        while True:
            for ended in worker.wait(60.0):
                if ended.name == number:
                    return ended
    except BaseException:  # Ray cancels a task by an interrupt
        with contextlib.suppress(WorkerGoneError):
            worker.kill(number)
        raise


def _check_identity(spec: TrialSpec, identity: Mapping[str, Any]) -> None:
    here = identity_of(spec)
    node = os.uname().nodename
    for name, digest in identity["files"].items():
        if here["files"].get(name, "absent") != digest:
            what = "has no" if here["files"].get(name, "absent") == "absent" else "has another"
            raise NodeError(
                f"the node '{node}' {what} '{name}': put the same files at the same place on "
                "every node"
            )
    if here["versions"] != identity["versions"]:
        raise NodeError(
            f"the node '{node}' has {_told(here['versions'])}, but this machine has "
            f"{_told(identity['versions'])}: install the same versions on every node"
        )


def _told(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _tail(log: Path) -> bytes:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            return file.read()
    except OSError:
        return b""
