"""Every rule over training through one suite: a page, a place, plain data, nothing but records."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tests.diagnosis.histories_by_hand import history_of, probe

import gradreach as gr
from gradreach.diagnosis.order import ORDER
from gradreach.diagnosis.over_training import TRAINING_RULES
from gradreach.diagnosis.pages import page
from gradreach.records import History
from gradreach.records.finding import REMEDIES

SECTIONS = ("Meaning", "Evidence", "Verdict", "What helps", "When it is wrong")
FLAT, RISING = np.ones(200), np.linspace(1, 9, 200)
STEPS = range(0, 200, 20)

FAULTS = {
    "nonfinite-value": history_of(np.where(np.arange(60) < 50, 1.0, np.nan),
                                  nonfinite=np.where(np.arange(60) < 50, 0, 9)),
    "ineffective-clipping": history_of(FLAT, clip_calls=1.0, clip_order=2, clip_threshold=1.0,
                                       clip_seen=0.0),
    "learning-rate-too-high": history_of(
        RISING, probes=tuple(probe(at, lambda by: 1 - 2 * by + 2.5 * by**2) for at in STEPS)
    ),
    "learning-rate-too-low": history_of(
        FLAT, probes=tuple(probe(at, lambda by: 1 - 0.001 * by) for at in STEPS)
    ),
    "exploding-update": history_of(np.where(np.arange(200) < 150, 1.0, 3.0),
                                   update_norm=np.where(np.arange(200) == 149, 1.0, 0.01)),
    "oscillating-loss": history_of(1 + 0.5 * np.sin(np.arange(200) * 0.2)),
    "stagnated-training": history_of(FLAT),
    "blind-probe": history_of(FLAT[:7]),
}  # fmt: skip

# What a record may lack: probes, norms, everything but the loss, and the loss itself.
POOR = {
    "no probes": lambda history: History(rows=history.rows),
    "losses only": lambda history: History(rows={"loss": history["loss"]}),
    "no losses": lambda history: History(
        rows={name: column for name, column in history.rows.items() if name != "loss"}
    ),
    "negative losses": lambda history: History(
        rows={**history.rows, "loss": -5.0 - history["loss"]}, probes=history.probes
    ),
    "a loss of zero": lambda history: History(rows={**history.rows, "loss": 0 * history["loss"]}),
}

rules = pytest.mark.parametrize("rule", TRAINING_RULES, ids=lambda rule: rule.code)


@rules
def test_rule_over_training_has_a_page_with_every_section(rule):
    text = page(rule.code)

    assert [name for name in SECTIONS if f"**{name}.**" not in text] == []
    assert "Where the threshold" in text


@rules
def test_rule_over_training_finds_its_fault_and_says_what_it_must(rule):
    found = rule(FAULTS[rule.code])

    assert [each.code for each in found] == [rule.code]
    for each in found:
        assert set(each.remedies) <= set(REMEDIES)
        assert each.counter_check
        assert each.numbers
        for sentence in (each.cause, each.counter_check):
            assert not sentence.endswith(".")
            assert "nan" not in sentence.split()


@rules
def test_rule_over_training_says_the_same_of_the_history_saved_and_loaded(rule):
    for history in FAULTS.values():
        loaded = History.from_dict(json.loads(json.dumps(history.to_dict())))

        assert rule(loaded) == rule(history)


@rules
def test_finding_over_training_survives_json(rule):
    for each in rule(FAULTS[rule.code]):
        assert gr.Finding.from_dict(json.loads(json.dumps(each.to_dict()))) == each


@pytest.mark.parametrize("poorer", POOR.values(), ids=POOR.keys())
@pytest.mark.parametrize("history", FAULTS.values(), ids=FAULTS.keys())
def test_history_that_lacks_much_gives_findings_that_can_be_printed(history, poorer):
    for each in gr.diagnose(poorer(history)):
        assert "nan" not in str(each).replace(",", " ").split()


def test_rules_over_training_stand_in_the_order_of_causes():
    places = [ORDER.index(rule.code) for rule in TRAINING_RULES]

    assert places == sorted(places)
    assert len(set(places)) == len(TRAINING_RULES)
