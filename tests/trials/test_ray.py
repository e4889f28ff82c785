"""Trials on a real Ray cluster of three nodes, all on this machine."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.trials import trainings
from tests.trials.test_local import spec_of

import gradreach
from gradreach.trials.ray_cluster import RayPool
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
