"""`gradreach diagnose --inputs`: models without a state, on request, in scripts as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.script.twins import Twins, codes, flows, twins

SCRIPT = Path(__file__).parents[1] / "scripts" / "without_state.py"


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Twins:
    place = tmp_path_factory.mktemp("without-state")
    options = ["--inputs", "--every", 1, "--needs-lag", 25]
    return twins(place, SCRIPT, options=options)


def test_training_without_a_state_has_the_same_bits(both: Twins) -> None:
    both.assert_same()


def test_inputs_of_each_model_are_measured(both: Twins) -> None:
    layers = [flow["layers"] for flow in flows(both.folder)]

    assert [list(each) for each in layers] == [["body"]] * 4 + [["Model.body"]] * 4
    assert {own["source"] for each in layers for own in each.values()} == {"inputs"}


def test_short_receptive_field_is_found_in_the_script(both: Twins) -> None:
    assert "vanishing-gradient" in codes(both.folder)
    assert "recurrence" not in both.watched.err
    assert "13 steps back" in both.watched.err  # 1 + 4 + 8: the receptive field of the two
