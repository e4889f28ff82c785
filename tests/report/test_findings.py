"""Findings in words: nothing of a finding is lost, the same problem is told once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gradreach.records.finding import REMEDIES, Finding
from gradreach.report.findings import (
    REMEDY_WORDS,
    Found,
    finding_lines,
    found_sentence,
    groups,
)

ONE = Finding(
    code="vanishing-gradient",
    severity="error",
    layer="rnn.l0",
    cause="the recurrence contracts 0.5× per step",
    counter_check="multiply weight_hh by 2",
    remedies=("gating", "skip"),
    numbers={"explains": [{"code": "dead-units"}]},
)
OTHER = replace(ONE, layer="rnn.l1", cause="the recurrence contracts 0.4× per step")


def told(*found, **options):
    return " ".join(" ".join(finding_lines([Found(f) for f in found], **options)).split())


def test_every_remedy_has_words_that_hold_its_name():
    assert set(REMEDY_WORDS) == set(REMEDIES)
    for name, words in REMEDY_WORDS.items():
        assert name.replace("_", " ") in words


def test_same_problem_is_told_once_with_each_cause():
    text = told(ONE, OTHER)

    assert text.count("error: vanishing-gradient") == 1
    assert text.count("Worth trying: gating (LSTM, GRU); skip connections") == 1
    for finding in (ONE, OTHER):
        assert f"{finding.layer}: {finding.cause}. This explains: dead-units." in text
    assert text.count("To refute it: multiply weight_hh by 2.") == 2


@pytest.mark.parametrize(
    "change", [{"severity": "warning"}, {"code": "dead-units"}, {"remedies": ("residual",)}]
)
def test_different_problems_stay_apart_in_their_order(change):
    split = groups([Found(ONE), Found(replace(ONE, **change)), Found(OTHER)])

    assert [len(group.members) for group in split] == [2, 1]
    assert [item.finding for item in split[0].members] == [ONE, OTHER]


@pytest.mark.parametrize("width", [60, 80])
def test_lines_fit_their_width(width):
    lines = finding_lines([Found(ONE, "after 200 steps")] * 2, width=width)

    assert max(map(len, lines)) <= width


def test_nothing_found_is_said():
    assert told() == "No problem found."
    assert told(none="All is well.") == "All is well."


def test_notes_are_no_problems():
    note = Found(replace(ONE, severity="note"))

    assert found_sentence([note]) == "No problem found."
    assert found_sentence([Found(OTHER), note, Found(ONE, "later"), Found(OTHER, "later")]) == (
        "3 problems found: vanishing-gradient in rnn.l1, rnn.l0."
    )
