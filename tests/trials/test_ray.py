"""Trials on a real Ray cluster of three nodes, all on this machine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.trials import trainings
from tests.trials.test_local import spec_of

import gradreach
from gradreach.trials import ray_connection
from gradreach.trials.ray_cluster import RayPool
from gradreach.trials.ray_connection import RayError, connected
from gradreach.trials.study import Study

ray = pytest.importorskip("ray", reason="machine lacks Ray")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    node = {"num_cpus": 1, "object_store_memory": 80_000_000}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        for _ in range(2):
            cluster.add_node(**node)
        yield cluster
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture(scope="module")
def pool(cluster: Any) -> Iterator[RayPool]:
    with RayPool(cluster.address, 1) as pool:
        yield pool


def test_table_of_three_nodes_one_lost_half_way_is_that_of_one_process(cluster, pool, tmp_path):
    treatments = ["clipping(norm=0.1)", "initialization(identity)"]
    lost: list[bool] = []

    def lose_a_node(seen: int) -> None:
        if seen == 4 and not lost:
            lost.append(True)
            cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)

    on_ray = compare_on(pool, treatments, tmp_path / "ray", lose_a_node)
    here = gradreach.compare(trainings.first_value, treatments, seeds=3)

    assert lost
    assert on_ray.results() == here.results()
    results = list((tmp_path / "ray" / "trials").glob("*/result.json"))
    assert len(results) == 9


def compare_on(pool: RayPool, treatments: list[str], study: Path, seen: Any) -> Any:
    """Compare on a pool that is there already, telling how many trials have begun."""
    begun = 0

    def run(specs: Any, study: Any, told: Any, tick: Any) -> None:
        def telling(spec: Any, trial: Any) -> None:
            nonlocal begun
            begun += trial is None
            told(spec, trial)
            seen(begun)

        RayPool.run(pool, specs, study, telling, tick)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "run", run)
        patch.setattr(pool, "close", lambda: None)
        patch.setattr("gradreach.trials.compare.pool_for", lambda *_: pool)
        return gradreach.compare(trainings.first_value, treatments, seeds=3, study=study)


def test_trial_that_ends_badly_on_a_node_says_how(pool, tmp_path):
    specs = [spec_of("raises"), spec_of("hangs", note=str(tmp_path / "n"), timeout=1.0)]
    study = Study(tmp_path / "study", specs[0])

    pool.run(specs[:1], study, lambda *_: None)
    other = Study(tmp_path / "other", specs[1])
    pool.run(specs[1:], other, lambda *_: None)

    crashed, late = study.result_of(specs[0]), other.result_of(specs[1])
    assert crashed is not None and crashed.outcome == "crashed"
    assert late is not None and late.message == "it was ended after 1 s"


def test_cluster_that_wants_a_token_is_explained_within_ten_seconds(tmp_path):
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

        assert time.monotonic() - begun < 10
    finally:
        os.killpg(head.pid, 15)
        head.wait(20)
        shutil.rmtree(short, ignore_errors=True)


def test_address_where_nobody_answers_is_told_at_once():
    begun = time.monotonic()

    with pytest.raises(RayError, match="no Ray cluster answers at 127.0.0.1:1: start one with"):
        connected("127.0.0.1:1")

    assert time.monotonic() - begun < 10


def test_address_where_something_else_answers_is_told_within_ten_seconds():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        begun = time.monotonic()

        with pytest.raises(RayError, match=f"no Ray cluster answers at {address}"):
            connected(address)

    assert time.monotonic() - begun < 10


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
