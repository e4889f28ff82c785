"""The record of a model: its names, its table, there and back through JSON."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from tests.records.made import flow, layer

from gradreach.records import BlindSpot, GradientFlow
from gradreach.records.gradient_flow import Layers
from gradreach.records.plain import SchemaError
from gradreach.runs.plain_json import dumps, loads

LONG = "model.encoder.blocks.{}.temporal_mixer.recurrent_layer_of_the_encoder.rnn"


def layers(*names):
    return Layers({name: layer(name) for name in names})


def test_record_comes_back_through_strict_json():
    record = flow(layer("rnn.l0"), layer("rnn.l0_reverse"), layer("cell"))

    back = GradientFlow.from_dict(loads(dumps(record.to_dict())))

    np.testing.assert_equal(back.to_dict(), record.to_dict())
    assert list(back.layers) == list(record.layers)
    assert str(back) == str(record)


def test_unusual_names_come_back():
    record = flow(layer("naïve.层.l0"), blind=(BlindSpot("$float", "NaN", "Infinity"),))

    assert GradientFlow.from_dict(loads(dumps(record.to_dict()))).blind == record.blind


@pytest.mark.parametrize("where", ["flow", "layer"])
def test_other_schema_is_refused_at_every_level(where):
    plain = flow().to_dict()
    (plain if where == "flow" else plain["layers"]["rnn.l0"])["schema_version"] = 0

    with pytest.raises(SchemaError, match="schema version 0 is not readable"):
        GradientFlow.from_dict(plain)


def test_record_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        flow().loss = 0.0


def test_module_name_stands_for_its_only_layer():
    found = layers("rnn.l0", "rnn#2.l0", "cell", "deep.l0", "deep.l1", "bi.l0", "bi.l0_reverse")

    assert found["rnn"] is found["rnn.l0"]
    assert found["rnn#2"] is found["rnn#2.l0"]
    assert found["cell"].name == "cell"
    assert "rnn" in found
    assert len(found) == 7
    assert "rnn" not in list(found)


@pytest.mark.parametrize("name", ["deep", "bi", "rnn.l1", "", "other"])
def test_ambiguous_and_unknown_names_list_what_there_is(name):
    found = layers("deep.l0", "deep.l1", "bi.l0", "bi.l0_reverse", "rnn.l0")

    with pytest.raises(KeyError, match="was measured; there is deep.l0, deep.l1, bi.l0"):
        found[name]
    assert found.get(name) is None


def test_only_reverse_layer_is_found_by_its_module():
    assert layers("rnn.l0_reverse")["rnn"].name == "rnn.l0_reverse"


@pytest.mark.parametrize("width", [64, 80, 120])
def test_print_fits_the_width_with_long_names_and_remarks(width):
    names = [f"{LONG.format(block)}.l{own}{way}" for block in range(12) for own in range(2)
             for way in ("", "_reverse")]  # fmt: skip
    many = [layer(name, notes=("the state is changed between steps " * 9,)) for name in names]
    record = flow(*many, blind=(BlindSpot("x" * 200, "GRU", "a long reason " * 20),))

    lines = record.table(width).split("\n")

    assert max(map(len, lines)) <= width
    shown = [line.split()[0] for line in lines[1 : len(names) + 1]]
    assert all(name.endswith(cut[1:]) for name, cut in zip(names, shown, strict=True))
    assert " ".join(lines).count("(GRU): a long reason") == 1
    assert width != 80 or str(record) == record.table()


def test_table_says_reach_and_what_is_not_known():
    told = str(flow(layer("a"), layer("b", lag_profile=np.ones(5)),
                    layer("c", lag_profile=np.zeros(0))))  # fmt: skip

    rows = {line.split()[0]: line for line in told.split("\n")[1:4]}
    assert "3 of 5" in rows["a"]
    assert "×0.1" in rows["a"]
    assert "all 5" in rows["b"]
    assert "█████" in rows["b"]
    assert rows["c"].split()[4:] == ["–", "–"]


def test_remarks_stand_below_the_table():
    told = str(flow())

    assert told.endswith(
        "not measured: decoder (GRU): it was not called\nrnn.l0: told once\nthe loss is nan"
    )


def test_html_names_every_layer_and_escapes():
    shown = flow(layer("<b>"), layer("ok.l0"))._repr_html_()

    assert "&lt;b&gt;" in shown
    assert "<b>" not in shown
    assert shown.count("<svg") == 2
