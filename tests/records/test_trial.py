"""A trial says how it ended, comes back from plain data as it was, and refuses what cannot be."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from gradreach.records import Finding, Trial
from gradreach.records.plain import SchemaError
from gradreach.runs.plain_json import dumps, loads

FINDING = Finding(
    code="vanishing-gradient", severity="warning", cause="it contracts", counter_check="widen it"
)


def trial(**changes: object) -> Trial:
    made = {
        "treatment": "gating(GRU)",
        "seed": 2,
        "outcome": "finished",
        "budget": 40,
        "metric": 0.25,
        "held_out": True,
        "steps_of_curve": np.array([1.0, 40.0]),
        "curve": np.array([2.0, 0.25]),
        "steps": 40,
        "seconds": 1.5,
        "reach": {"rnn": 12.0},
        "findings": (FINDING,),
        "key": "abc",
        "meta": {"threads": 1},
    }
    return Trial(**(made | changes))


def test_trial_comes_back_from_json_as_it_was():
    before = trial()

    after = Trial.from_dict(loads(dumps(before.to_dict())))

    assert after.to_dict() == before.to_dict()
    assert json.dumps(after.to_dict())  # plain data


def test_unfinished_trial_keeps_its_nan():
    before = trial(outcome="crashed", metric=math.nan, message="ValueError: no")

    after = Trial.from_dict(loads(dumps(before.to_dict())))

    assert math.isnan(after.metric)
    assert str(after).endswith("(ValueError: no)")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"outcome": "done"}, "argument 'outcome' must be one of finished, crashed"),
        ({"metric": math.inf}, "a finished trial has a finite 'metric'; got inf"),
        ({"curve": np.ones(3)}, "argument 'curve' has 3 values at 2 steps"),
    ],
)
def test_trial_that_cannot_be_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        trial(**changes)


def test_trial_of_another_schema_is_refused():
    with pytest.raises(SchemaError, match="schema version 99"):
        Trial.from_dict(trial().to_dict() | {"schema_version": 99})


def test_notes_are_no_findings_left():
    note = Finding(code="blind-probe", severity="note", cause="c", counter_check="d")

    assert trial(findings=(FINDING, FINDING, note)).codes == ("vanishing-gradient",)
