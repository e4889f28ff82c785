"""A watched training under torchrun: two processes, one writer, the same bits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gradreach.runs.run_record import read_run

SCRIPT = Path(__file__).with_name("data_parallel.py")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
        pytest.skip("machine lacks torch.distributed with gloo")
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node",
               "2", str(SCRIPT), str(folder)]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    done = subprocess.run(
        command, capture_output=True, text=True, timeout=200, env=environment, check=False
    )

    assert done.returncode == 0, done.stderr
    return folder, [json.loads((folder / f"rank{k}.json").read_text()) for k in (0, 1)]


def test_watched_weights_are_those_of_an_unwatched_run_on_both_ranks(ranks) -> None:
    _, told = ranks

    digests = {each[way]["weights"] for each in told for way in ("watched", "plain")}

    assert len(digests) == 1


def test_averaged_norm_is_the_same_and_the_local_one_is_of_the_ranks_own_data(ranks) -> None:
    _, (first, second) = ranks
    first, second = first["watched"], second["watched"]

    assert first["trouble"] is None and second["trouble"] is None
    assert first["gradient_norm"] == second["gradient_norm"]
    for each in (first, second):
        own = np.array(each["local_gradient_norm"])
        assert len(own) == 12 and np.isfinite(own).all()
        # float32 gradients of the same data without DDP
        assert own[0] == pytest.approx(each["own"][0], rel=1e-5)
        assert max(each["clipped_norm"]) <= 0.5 * (1 + 1e-5)
    assert first["local_gradient_norm"] != second["local_gradient_norm"]
    # A mean is no longer than the mean of the lengths.
    means = np.mean([first["local_gradient_norm"], second["local_gradient_norm"]], axis=0)
    assert (np.array(first["gradient_norm"]) <= means * (1 + 1e-6)).all()


def test_one_process_writes_and_its_findings_stand_there_once(ranks) -> None:
    folder, (first, _) = ranks

    record = read_run(folder / "run")

    assert sorted(path.name for path in folder.iterdir()) == ["rank0.json", "rank1.json", "run"]
    assert record.state == "ended" and not record.complaints
    codes = [sighting.finding.code for sighting in record.findings]
    assert codes == first["watched"]["findings"] and len(set(codes)) == len(codes)
    assert record.history is not None
    np.testing.assert_array_equal(
        record.history["local_gradient_norm"], first["watched"]["local_gradient_norm"]
    )
