"""Why trials cannot be run on Ray, each time in one sentence and soon."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import pytest
from tests.trials import trainings

import gradreach
from gradreach.trials import ray_connection
from gradreach.trials.ray_connection import RayError, connected

HANGING = 60.0  # seconds; within ten on an idle machine, where Ray's own way takes minutes
ray = pytest.importorskip("ray", reason="machine lacks Ray")


def test_cluster_that_wants_a_token_is_explained_soon(tmp_path):
    # A head of its own: the mode is fixed when a cluster starts.
    home = tmp_path / "home"
    (home / ".ray").mkdir(parents=True)
    (home / ".ray" / "auth_token").write_text("0" * 64)
    port = free_port()
    short = tempfile.mkdtemp(prefix="ray")  # paths of its sockets must be below 108 characters
    head = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", f"--port={port}",
         "--num-cpus=1", "--include-dashboard=false", "--block", f"--temp-dir={short}",
         "--object-store-memory=80000000"],
        env={**os.environ, "RAY_AUTH_MODE": "token", "HOME": str(home)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        wait_for(port)
        begun = time.monotonic()

        with pytest.raises(RayError, match="wants a token that this process does not send"):
            connected(f"127.0.0.1:{port}")

        assert time.monotonic() - begun < HANGING
    finally:
        end(head)
        shutil.rmtree(short, ignore_errors=True)


def end(head: subprocess.Popen[bytes]) -> None:
    """End a head with its processes; one that still begins looks for them for half a minute."""
    os.killpg(head.pid, signal.SIGTERM)
    try:
        head.wait(5)
    except subprocess.TimeoutExpired:
        os.killpg(head.pid, signal.SIGKILL)
        head.wait(20)


def test_address_where_nobody_answers_is_told():
    begun = time.monotonic()

    with pytest.raises(RayError, match="no Ray cluster answers at 127.0.0.1:1: start one with"):
        connected("127.0.0.1:1")

    assert time.monotonic() - begun < HANGING


def test_address_where_something_else_answers_is_told_soon():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        begun = time.monotonic()

        with pytest.raises(RayError, match=f"no Ray cluster answers at {address}"):
            connected(address)

    assert time.monotonic() - begun < HANGING


@pytest.mark.parametrize("address", ["cluster", "host:port", "ray://head:10001"])
def test_what_is_no_address_is_told(address):
    with pytest.raises(RayError, match="address of a Ray"):
        connected(address)


def test_old_ray_is_told(monkeypatch):
    monkeypatch.setattr(ray, "__version__", "2.9.3")

    with pytest.raises(RayError, match="needs Ray 2.40 or newer, but 2.9.3 is installed"):
        connected("auto")


def test_missing_ray_is_told(monkeypatch):
    def require(module: str, *, extra: str, purpose: str) -> None:
        raise gradreach.MissingExtraError(f"{purpose} needs `{module}`: pip '{extra}'")

    monkeypatch.setattr(ray_connection, "require", require)

    with pytest.raises(gradreach.MissingExtraError, match="running trials on Ray needs `ray`"):
        gradreach.compare(trainings.first_value, [], ray="auto")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_for(port: int) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.2)
        else:
            time.sleep(1.0)  # it listens a moment before it answers
            return
    pytest.fail("the head did not start within 60 s")
