"""Under torchrun every rank runs the script, and the first one watches it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.script.twins import RULE, SCRIPTS, Ended, ended, flows, meta

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2]


def under_torchrun(place: Path, *options: object) -> tuple[Ended, Path]:
    folder = place / "gradreach-run"
    command = [*TORCHRUN, "-m", "gradreach", "diagnose", "--run-folder", folder, *options]
    return ended([*command, SCRIPTS / "ddp.py"], place / "run"), folder


@pytest.mark.slow
def test_ranks_compute_the_same_bits_and_findings_are_told_once(tmp_path: Path) -> None:
    plain = ended([*TORCHRUN, SCRIPTS / "ddp.py"], tmp_path / "plain")

    found, folder = under_torchrun(tmp_path)

    assert (plain.code, found.code) == (0, 0)  # a finding is no crash to the launcher
    assert found.files == plain.files
    assert found.err.count(RULE) == 1
    told = meta(folder)
    assert (told["passes"], told["optimizer_steps"], told["trouble"]) == (6, 6, None)
    for flow in flows(folder):  # of this rank alone: before the gradients are averaged
        assert max(flow["layers"]["gru.l0"]["closure_error"].values()) <= 1e-5
        assert set(flow["layers"]["gru.l0"]["closure_reference"].values()) == {"backward"}


def test_all_ranks_stop_after_the_steps_asked_for(tmp_path: Path) -> None:
    """… or one would wait for the others for ever."""
    found, folder = under_torchrun(tmp_path, "--steps", 2)

    assert (found.code, found.files) == (0, {})
    assert (meta(folder)["state"], meta(folder)["optimizer_steps"]) == ("stopped", 2)
    assert found.err.count(RULE) == 1
