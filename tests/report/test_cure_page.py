"""The page and the terminal text of a cure."""

from __future__ import annotations

import math

import pytest

from gradreach.records.comparison import Comparison
from gradreach.records.finding import Finding
from gradreach.records.standing import Standing
from gradreach.records.trial import Trial
from gradreach.report.cure_page import render_cure
from gradreach.report.cure_text import cure_lines

HOSTILE = "<script>alert(1)</script>\"'&"
PATCH = "--- a.py\n+++ a.py\n@@ -1 +1 @@\n-rnn = nn.RNN(2, 3)\n+rnn = nn.GRU(2, 3)"


def comparison(label: str = "gating(GRU)", criterion: float | None = None) -> Comparison:
    def trials(treatment: str, *values: float) -> list[Trial]:
        return [
            Trial(treatment=treatment, seed=seed, metric=value,
                  outcome="finished" if math.isfinite(value) else "crashed")
            for seed, value in enumerate(values)
        ]  # fmt: skip

    control, treated = trials("control", 0.2, 0.3, math.nan), trials(label, 0.01, 0.02, 0.03)
    return Comparison(
        metric="loss", direction="minimize", criterion=criterion, trials=(*control, *treated),
        standings=(Standing(treatment="control", seeds=3), Standing(treatment=label, seeds=3),
                   Standing(treatment="skip(lag=2)", seeds=0, dropped=10)),
        winner=label, sentence="", meta={"budget": None, "seeds": [0, 1, 2], "threads": 1},
    )  # fmt: skip


def test_every_seed_is_a_dot_and_what_did_not_finish_a_cross():
    page = render_cure("train.py", "It helps.", [], comparison())

    assert page.count("<circle") == 5
    assert page.count("<path") == 1
    assert "dropped after 10 steps" in page


def test_target_is_drawn_and_named_where_there_is_one():
    assert "red the target" in render_cure("t", "v", [], comparison(criterion=0.05))
    assert "red the target" not in render_cure("t", "v", [], comparison())


def test_patch_is_marked_line_by_line():
    page = render_cure("t", "v", [], comparison(), patch=PATCH)

    assert '<span class="removed">-rnn = nn.RNN(2, 3)</span>' in page
    assert '<span class="added">+rnn = nn.GRU(2, 3)</span>' in page


def test_hostile_texts_stay_texts_wherever_they_stand():
    finding = Finding(code="dead-units", severity="error", cause=HOSTILE, counter_check=HOSTILE,
                      layer=HOSTILE)  # fmt: skip
    page = render_cure(
        HOSTILE, HOSTILE, [finding], comparison(HOSTILE), patch=f"+{HOSTILE}", notes=[HOSTILE],
        refused=[(HOSTILE, HOSTILE)], left=[HOSTILE],
    )  # fmt: skip

    assert "<script" not in page


def test_without_a_study_the_page_has_the_verdict_only():
    page = render_cure("train.py", "No treatment is needed.", [], None)

    assert "No treatment is needed." in page
    assert "<svg" not in page and "What was tried" not in page


def test_text_keeps_to_eighty_columns_but_for_lines_of_code():
    notes = ["A sentence of many words that has to be broken into lines somewhere on its way."]
    lines = list(cure_lines("It helps. " * 20, [], comparison(), patch=PATCH, notes=notes,
                            refused=[("skip", "there is no layer")], left=["a", "b"]))  # fmt: skip

    assert max(map(len, lines)) <= 80
    assert PATCH.splitlines()[-1] in lines
    assert "Not tried: skip: there is no layer." in lines


@pytest.mark.parametrize("words", ["Not tried for want of room: a, b.", "The lines to change:"])
def test_text_says_what_was_left_and_what_to_change(words):
    assert words in list(cure_lines("x", [], comparison(), patch=PATCH, left=["a", "b"]))
