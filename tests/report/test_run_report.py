"""The report of a watched run: verdict, findings, then the passes."""

from __future__ import annotations

from tests.report.flows import geometric_flow
from tests.report.test_html import Page

import gradreach
from gradreach.records.sighting import Sighting
from gradreach.report.run_report import write_run_report


def page_of(tmp_path, sightings, flows, notes=()):
    write_run_report(tmp_path / "report.html", "train.py", sightings, flows, notes)
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_verdict_findings_and_passes_stand_in_this_order(tmp_path):
    flow = geometric_flow(0.5)
    sightings = [Sighting.at(f, 0).again(50) for f in gradreach.diagnose(flow, needs_lag=20)]

    page = page_of(tmp_path, sightings, [(0, flow), (50, geometric_flow(0.8))], ["A note."])

    order = [text for _, text in Page(page).texts]
    places = [
        order.index(text)
        for text in (
            "1 problem found: vanishing-gradient in rnn.l0.",
            "At step 50: The gradient fades: less than 1 % of it is left 21 steps back (of 30 "
            "measured).",
            "Findings",
            "vanishing-gradient",
            "error",
            "seen in 2 samples, steps 0 to 50, rnn.l0",
            "First measured pass, step 0",
            "Latest measured pass, step 50",
            "A note.",
        )
    ]
    assert places == sorted(places)
    finding = sightings[0].finding
    assert f"{finding.cause[1:]}." in page
    assert f"To refute it: {finding.counter_check}." in page


def test_healthy_run_says_so_and_has_no_findings(tmp_path):
    page = page_of(tmp_path, [], [(3, geometric_flow(1.0))])

    assert "<p>No problem found.</p>" in page
    assert "<h2>Findings</h2>" not in page
    assert "<h2>The measured pass, step 3</h2>" in page


def test_hostile_finding_is_shown_as_text(tmp_path):
    flow = geometric_flow(0.5)
    bad = "<script>alert(1)</script>"
    found = [Sighting.at(f, 0) for f in gradreach.diagnose(flow)]
    object.__setattr__(found[0].finding, "layer", bad)
    object.__setattr__(found[0].finding, "cause", bad)

    page = page_of(tmp_path, found, [(0, flow)])

    assert "script" not in Page(page).tags
    assert f"seen at step 0, {bad}" in [text for _, text in Page(page).texts]
