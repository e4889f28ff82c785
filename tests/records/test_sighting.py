"""A finding and when a run showed it."""

from __future__ import annotations

import dataclasses

import pytest

from gradreach.records import Finding
from gradreach.records.plain import SchemaError
from gradreach.records.sighting import Sighting
from gradreach.runs.plain_json import dumps, loads

FINDING = Finding(code="dead-units", severity="warning", cause="60 % are dead", layer="rnn.l0",
                  counter_check="feed other data", numbers={"units": 3}, steps=(0, 4),
                  remedies=("activation",))  # fmt: skip


def test_sightings_count_and_keep_the_first():
    first = Sighting.at(FINDING, 10)

    later = first.again(20).again(35)

    assert (later.first, later.last, later.count) == (10, 35, 3)
    assert (first.first, first.last, first.count) == (10, 10, 1)
    assert first.when == "seen at step 10"
    assert later.when == "seen in 3 samples, steps 10 to 35"


def test_sighting_comes_back_and_reads_as_its_finding():
    sighting = Sighting.at(FINDING, 1).again(2)

    plain = loads(dumps(sighting.to_dict()))

    assert Sighting.from_dict(plain) == sighting
    assert Finding.from_dict(plain) == FINDING
    assert plain["seen"] == {"first_step": 1, "last_step": 2, "samples": 2}


def test_other_record_is_refused():
    with pytest.raises(SchemaError, match="expected a 'Finding' record"):
        Sighting.from_dict({"record": "Trial", "seen": {}})


def test_sighting_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Sighting.at(FINDING, 1).count = 2
