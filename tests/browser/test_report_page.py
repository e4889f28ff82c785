"""The report as a browser shows it: offline, without a complaint, to everyone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.browser.hostile import STRINGS
from tests.records.trainings import broken, layer, training
from tests.report.flows import geometric_flow

from gradreach.records import Event, Finding, GradientFlow, Sample
from gradreach.records.gradient_flow import Layers
from gradreach.records.sighting import Sighting
from gradreach.report import training as training_module
from gradreach.report.run_report import write_run_report

CODE = Finding(
    code="vanishing-gradient",
    severity="warning",
    cause="it contracts",
    counter_check="double it",
    layer="rnn.l0",
    remedies=("gating",),
)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Write the report of a broken training; return its address."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    flows = [(0, geometric_flow(0.5)), (60, geometric_flow(0.9))]
    write_run_report(path, "train.py", [Sighting.at(CODE, 0)], flows, ["A note."], broken())
    return path.as_uri()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_report_opens_from_disk_without_request_or_complaint(report, visit, width, scheme):
    seen = visit(viewport={"width": width, "height": 800}, color_scheme=scheme)

    seen.page.goto(report)

    assert seen.requests == [report]
    assert seen.complaints == []
    assert seen.page.evaluate("document.documentElement.dataset.drawn") == "yes"
    assert seen.page.locator("figure.drawn").count() == 6  # five curves and a map
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    first = seen.page.locator(".verdict").bounding_box()
    picture = seen.page.locator("#proof canvas").bounding_box()
    assert first["y"] + first["height"] < 500
    assert picture["y"] < 800, "the picture that proves the verdict is on the first screen"


def test_report_without_scripts_and_in_print_shows_the_same_pictures(report, visit):
    plain = visit(java_script_enabled=False)
    printed = visit()

    plain.page.goto(report)
    printed.page.goto(report)
    printed.page.emulate_media(media="print")

    shown = [plain.page.locator("svg:visible").count(), printed.page.locator("svg:visible").count()]
    assert shown[0] == shown[1] >= 9
    assert printed.page.locator("canvas:visible").count() == 0
    assert plain.requests == [report]


def test_keyboard_reaches_every_picture_and_reads_its_values(report, visit):
    seen = visit()
    seen.page.goto(report)
    focused = []
    for _ in range(60):
        seen.page.keyboard.press("Tab")
        focused.append(
            seen.page.evaluate(
                "(document.activeElement.getAttribute('aria-label')"
                " || document.activeElement.textContent || '').slice(0, 60)"
            )
        )

    assert focused[0] == "Skip to the content"
    for name in ("The picture", "Findings", "Size of the state gradient", "Loss of each step. Le"):
        assert any(each.startswith(name) for each in focused), (name, focused)

    loss = seen.page.locator("#chart-0 [role=group]")
    loss.focus()
    seen.page.keyboard.press("Home")
    seen.page.keyboard.press("ArrowRight")
    assert seen.page.locator("#chart-0 .readout").text_content() == "step 1: loss 0.933"
    seen.page.keyboard.press("End")
    assert seen.page.locator("#chart-0 .readout").text_content() == "step 99: loss NaN"
    seen.page.locator("#map-0 canvas").focus()
    seen.page.keyboard.press("ArrowUp")
    told = seen.page.locator("#map-0 .readout").text_content()
    assert told.startswith("training step 60, 0 timesteps from the end: ")


def test_pictures_and_regions_have_names_for_a_screen_reader(report, visit):
    seen = visit()
    seen.page.goto(report)

    nameless = seen.page.evaluate("""
        [...document.querySelectorAll("svg, canvas[role], [role=group], [role=region], nav, table")]
        .filter((each) => !each.getAttribute("aria-label"))
        .filter((each) => !each.querySelector("caption, title"))
        .map((each) => each.outerHTML.slice(0, 80))
    """)

    assert nameless == []
    assert seen.page.locator("main").count() == 1
    assert seen.page.locator("h1").count() == 1


def test_hostile_names_execute_nothing_anywhere_in_the_report(tmp_path, visit, monkeypatch):
    monkeypatch.setattr(training_module, "LAYERS", len(STRINGS))
    monkeypatch.setattr(training_module, "EVENTS", len(STRINGS))
    flow = geometric_flow(0.5, steps=8)
    own = next(iter(flow.layers.values()))
    layers = Layers({name: replace(own, name=name, notes=(name,)) for name in STRINGS})
    hostile = GradientFlow(layers=layers, loss=1.0, notes=STRINGS, meta={})
    samples = tuple(
        Sample(step=step, number=step, reason="start",
               layers={name: layer(np.array([0.1, 1.0])) for name in STRINGS})
        for step in range(2)
    )  # fmt: skip
    events = tuple(Event(kind="clip", step=0, text=name) for name in STRINGS)
    findings = [
        Sighting.at(replace(CODE, code=name, cause=name, layer=name, gate=name,
                            counter_check=name, numbers={"explains": [{"code": name}]}), 0)
        for name in STRINGS
    ]  # fmt: skip
    path = tmp_path / "report.html"
    write_run_report(path, STRINGS[0], findings, [(0, hostile)], STRINGS,
                     training(4, samples=samples, events=events))  # fmt: skip
    seen = visit()

    seen.page.goto(path.as_uri())

    assert seen.requests == [path.as_uri()]
    assert seen.complaints == []
    assert seen.page.evaluate("document.documentElement.dataset.drawn") == "yes"
    assert seen.page.locator("figure.drawn").count() >= len(STRINGS)
    assert harm(seen.page) == [None, 0, 0, 4]
    text = seen.page.content()
    assert "\u202e" not in text
    assert "⟨U+202E⟩" in text


def harm(page):
    """Return what ran, elements and handlers that no page of ours has, and the scripts there."""
    return page.evaluate("""[
        window.pwned ?? null,
        document.querySelectorAll("img, iframe, object, embed, form, base, template, math, video,"
            + " audio, a[href^='javascript'], figure script, li script, style ~ style").length,
        [...document.querySelectorAll("*")].filter((each) =>
            [...each.attributes].some((own) => own.name.startsWith("on"))).length,
        document.scripts.length,
    ]""")
