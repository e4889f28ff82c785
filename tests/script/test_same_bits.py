"""A watched script computes, prints and saves the same bits, and each sampled step adds up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.script.twins import SCRIPTS, Twins, codes, flows, meta, twins

# The states of a pass are rounded to 24 bits and their gradients summed in double precision: over
# some tens of steps the sum is met to a few 1e-7 (1e-16 in double precision).
CLOSURE = {"float32": 1e-5, "float64": 1e-13}

CASES = [  # script, dtype, passes, samples with --every 4
    ("plain_dropout", "float32", 28, 9),
    ("stateful_lm", "float32", 40, 14),
    ("cell_lbfgs", "float64", 18, 7),
    ("by_hand", "float32", 30, 10),
    ("amp_scaler", "float32", 12, 5),
    ("packed_workers", "float32", 10, 5),
]


def assert_adds_up(flow: dict[str, Any], tolerance: float, *, reference: str = "backward") -> None:
    """Assert that the contributions of all steps sum to what backward sent to each weight."""
    assert flow["layers"]
    for name, layer in flow["layers"].items():
        assert layer["closure_error"].keys() == layer["contributions"].keys()
        assert max(layer["closure_error"].values()) <= tolerance, name
        assert set(layer["closure_reference"].values()) == {reference}, name


@pytest.mark.parametrize(("script", "dtype", "passes", "samples"), CASES)
def test_script_is_not_disturbed_and_each_sample_adds_up(
    script: str, dtype: str, passes: int, samples: int, tmp_path: Path
) -> None:
    both = twins(tmp_path, SCRIPTS / f"{script}.py", options=["--every", 4])

    both.assert_same()
    assert (both.plain.code, both.plain.err) == (0, "")
    assert both.watched.own_err == ""
    assert both.watched.code in (0, 1)  # healthy, or a finding
    told = meta(both.folder)
    assert (told["passes"], told["trouble"], told["blind"]) == (passes, None, [])
    taken = flows(both.folder)
    assert len(taken) == told["samples"] == samples
    for flow in taken:
        assert_adds_up(flow, CLOSURE[dtype])


@pytest.mark.slow
def test_compiled_models_are_not_disturbed(tmp_path: Path) -> None:
    both = twins(tmp_path, SCRIPTS / "compiled.py", options=["--every", 1])

    both.assert_same()
    assert (both.plain.code, both.plain.err, both.watched.own_err) == (0, "", "")
    assert meta(both.folder)["samples"] == 3  # around the third model only the linear layer is
    blind = {spot["module"]: spot["reason"] for spot in meta(both.folder)["blind"]}
    assert "torch.compile" in blind["2.cell"]  # named, not passed over


@pytest.fixture(scope="module")
def unusual(tmp_path_factory: pytest.TempPathFactory) -> Twins:
    """The script with the less usual ways to train, every pass of it sampled."""
    place = tmp_path_factory.mktemp("unusual")
    return twins(place, SCRIPTS / "unusual.py", options=["--every", 1])


def test_unusual_ways_to_train_are_not_disturbed(unusual: Twins) -> None:
    unusual.assert_same()

    assert (unusual.plain.code, unusual.plain.err, unusual.watched.own_err) == (0, "", "")
    # Nothing is wrong with them; a loss that is not seen (autograd.grad) is not taken for a NaN.
    assert (unusual.watched.code, codes(unusual.folder)) == (0, ["blind-probe"])


def test_unusual_ways_to_train_add_up(unusual: Twins) -> None:
    frozen = [flow for flow in flows(unusual.folder) if _replayed(flow)]
    others = [flow for flow in flows(unusual.folder) if not _replayed(flow)]

    assert meta(unusual.folder)["trouble"] is None
    assert len(frozen) == 3  # of frozen weights there is no gradient to compare with
    for flow in frozen:
        assert_adds_up(flow, CLOSURE["float32"], reference="replay")
    assert len(others) == 32
    for flow in others:
        assert_adds_up(flow, CLOSURE["float32"])


def test_unusual_ways_to_train_are_told_apart(unusual: Twins) -> None:
    per_flow = [set(flow["layers"]) for flow in flows(unusual.folder)]

    # plain and the two kinds of checkpointing: both layers in one pass
    assert per_flow[:9] == [{"lstm.l0", "gru.l0"}] * 9
    assert per_flow[-3:] == [{"LSTM3.lstm.l0"}] * 3  # float64, the last of all models


def _replayed(flow: dict[str, Any]) -> bool:
    return any("replay" in layer["closure_reference"].values() for layer in flow["layers"].values())
