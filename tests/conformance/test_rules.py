"""Every rule through one suite: it has a page and a place, and reads nothing but records."""

from __future__ import annotations

import ast
import importlib
import json
from functools import cache
from pathlib import Path

import pytest
from tests.faults.corpus import CASES, MORE

import gradreach as gr
from gradreach.diagnosis.diagnose import RULES
from gradreach.diagnosis.order import ORDER
from gradreach.diagnosis.pages import page
from gradreach.records.finding import REMEDIES

SECTIONS = ("Meaning", "Evidence", "Verdict", "What helps", "When it is wrong")
FOLDER = Path(importlib.import_module("gradreach.diagnosis").__file__).parent
READABLE = ("gradreach.records", "gradreach.diagnosis", "numpy")

rules = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)


@cache
def sample(code: str) -> gr.GradientFlow:
    """Measure the first model of the corpus that has this fault."""
    case = next(case for case in (*CASES, *MORE) if case.code == code)
    return case.build(0, True).measure()


def own_findings(rule, flow, **how):
    return [found for found in rule(flow, **how) if found.code == rule.code]


@rules
def test_rule_has_a_page_with_every_section(rule):
    text = page(rule.code)

    assert text.startswith(f"# {rule.code}\n")
    assert [name for name in SECTIONS if f"**{name}.**" not in text] == []
    assert "Where the threshold" in text


@rules
def test_rule_finds_its_fault_and_nothing_else(rule):
    found = rule(sample(rule.code))

    assert found
    assert {each.code for each in found} == {rule.code}


@rules
def test_finding_says_what_it_must(rule):
    for found in rule(sample(rule.code)):
        assert set(found.remedies) <= set(REMEDIES)
        assert found.counter_check
        assert found.numbers
        for sentence in (found.cause, found.counter_check):
            assert not sentence.endswith(".")  # printed after a colon, within a line
            assert "nan" not in sentence.split()


@rules
def test_finding_survives_json(rule):
    for found in rule(sample(rule.code)):
        assert gr.Finding.from_dict(json.loads(json.dumps(found.to_dict()))) == found


@rules
def test_rule_says_the_same_of_the_record_saved_and_loaded(rule):
    flow = sample(rule.code)

    loaded = gr.GradientFlow.from_dict(json.loads(json.dumps(flow.to_dict())))

    assert rule(loaded) == rule(flow)


@rules
@pytest.mark.parametrize("needs_lag", [None, 1, 10_000])
def test_rule_takes_any_need_and_any_fault(rule, needs_lag):
    for code in {other.code for other in RULES}:
        for found in rule(sample(code), needs_lag=needs_lag):
            assert found.code == rule.code


@rules
def test_rule_explains_only_what_stands_after_it(rule):
    for earlier in RULES:
        if ORDER.index(earlier.code) >= ORDER.index(rule.code):
            continue
        for cause in rule(sample(rule.code)):
            for symptom in earlier(sample(earlier.code)):
                assert symptom.code == rule.code or not rule.explains(cause, symptom) or (
                    rule.code == "nonfinite-value"
                )  # fmt: skip


def test_rules_stand_in_the_order_of_causes():
    places = [ORDER.index(rule.code) for rule in RULES]

    assert places == sorted(places)
    assert len(set(places)) == len(RULES)


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.py")), ids=lambda path: path.stem)
def test_diagnosis_imports_records_and_no_torch(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            assert name.partition(".")[0] != "torch"
            assert not name.startswith("gradreach") or name.startswith(READABLE)
