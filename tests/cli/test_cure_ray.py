"""``gradreach cure --ray`` on a real cluster of three nodes, all on this machine."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.cli.cure_driver import GROWING, OPTIONS, again, interrupted, started, table_of

pytest.importorskip("ray", reason="machine lacks Ray")
from tests.trials.test_ray import cluster  # noqa: F401  a fixture

pytestmark = pytest.mark.slow
CURE = (sys.executable, "-m", "gradreach", "cure", "--study", "study")


@pytest.fixture
def table(tmp_path: Path) -> dict[str, Any]:
    """Cure the script on this machine alone; the study is taken away again."""
    (tmp_path / "growing.py").write_text(GROWING)
    driver = started(tmp_path, *CURE, "--jobs", "2", *OPTIONS)
    _, told = driver.communicate(timeout=200)
    assert driver.returncode == 1, told
    found = table_of(tmp_path / "study")
    shutil.rmtree(tmp_path / "study")
    return found


def test_cluster_gives_the_table_of_this_machine(cluster, table, tmp_path):  # noqa: F811
    for address in ("auto", cluster.address):
        driver = started(tmp_path, *CURE, "--ray", address, *OPTIONS, RAY_ADDRESS=cluster.address)
        _, told = driver.communicate(timeout=200)

        assert driver.returncode == 1, told
        assert table_of(tmp_path / "study") == table
        shutil.rmtree(tmp_path / "study")


@pytest.mark.parametrize("results", [0, 1, 3])
def test_ctrl_c_on_a_cluster_ends_its_trials_and_can_be_taken_up(
    cluster,  # noqa: F811
    table,
    tmp_path,
    results,
):
    driver = started(tmp_path, *CURE, "--ray", cluster.address, *OPTIONS)
    trials = tmp_path / "study" / "trials"
    while len(list(trials.glob("*/result.json"))) < results or not trials.is_dir():
        assert driver.poll() is None
        time.sleep(0.02)

    told = interrupted(driver)
    kept = {each: each.stat().st_mtime_ns for each in trials.glob("*/result.json")}
    code = again(tmp_path, told)

    assert code == 1
    assert results <= len(kept) < 4
    assert table_of(tmp_path / "study") == table
    assert all(each.stat().st_mtime_ns == at for each, at in kept.items())
    assert not trials_of(tmp_path)


def trials_of(folder: Path) -> list[str]:
    """Return the processes that still work in a folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if (place / "cwd").resolve() == folder:
                found.append(place.name)
        except OSError:
            continue
    return found
