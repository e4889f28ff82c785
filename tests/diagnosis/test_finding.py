"""The record of a verdict: what it refuses, how it prints, how it is stored."""

from __future__ import annotations

import json

import pytest

import gradreach as gr
from gradreach.records.plain import SchemaError


def finding(**fields: object) -> gr.Finding:
    values = {
        "code": "closed-gate",
        "severity": "warning",
        "cause": "the gate lets <0.3 %> pass",
        "counter_check": "open it",
        "layer": "rnn.l0",
        "gate": "f",
        "steps": (0, 9),
        "numbers": {"mean": 0.25, "explains": [{"code": "vanishing-gradient"}]},
        "remedies": ("initialization", "skip"),
    }
    return gr.Finding(**(values | fields))


def test_finding_survives_json():
    found = finding()

    again = gr.Finding.from_dict(json.loads(json.dumps(found.to_dict())))

    assert again == found


def test_finding_prints_cause_remedies_and_refutation():
    assert str(finding()).splitlines() == [
        "warning: closed-gate in rnn.l0, gate f",
        "  the gate lets <0.3 %> pass",
        "  this explains: vanishing-gradient",
        "  worth trying: initialization, skip",
        "  to refute it: open it",
    ]


def test_finding_escapes_its_html():
    page = finding()._repr_html_()

    assert "&lt;0.3 %&gt;" in page
    assert "<0.3" not in page


def test_unknown_severity_is_refused():
    with pytest.raises(ValueError, match="'severity' must be one of error, warning, note; got 'f"):
        finding(severity="fatal")


def test_unknown_remedy_is_refused():
    with pytest.raises(ValueError, match="names 'prayer', which is no treatment; there is activ"):
        finding(remedies=("prayer",))


@pytest.mark.parametrize("value", [float("nan"), {1, 2}])
def test_numbers_that_json_cannot_hold_are_refused(value):
    with pytest.raises(TypeError, match="'numbers' must be plain data that JSON can hold"):
        finding(numbers={"mean": value})


@pytest.mark.parametrize("change", [{"record": "Trial"}, {"schema_version": 99}])
def test_foreign_data_is_refused(change):
    with pytest.raises(SchemaError):
        gr.Finding.from_dict(finding().to_dict() | change)
