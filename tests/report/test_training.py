"""The report of a training: curves, heat maps and events, one small page that loads nothing."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from tests.records.trainings import broken, layer, training
from tests.report.flows import geometric_flow
from tests.report.test_html import Page

from gradreach.display.heat_map import INFINITE, NAN
from gradreach.records import Event, History, Sample
from gradreach.report.run_report import write_run_report


def page_of(tmp_path, history, flows=()) -> str:
    write_run_report(tmp_path / "report.html", "train.py", [], flows, ["A note."], history)
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_every_quantity_has_its_picture_and_its_numbers(tmp_path):
    page = page_of(tmp_path, training())

    told = Page(page)
    titles = [title for tag, title in told.texts if tag == "title"][1:]
    assert titles == [
        "Size of the state gradient of rnn.l0, by training step and timestep",  # the proof
        "Loss of each step, by step",
        "Size of the gradient, by step",
        "Size of the update by that of the weights, by step",
        "Learning rate, by step",
        "Reach: timesteps until less than 1 % of the gradient is left, in each sample, by step",
    ]
    assert told.tags.count("svg") == 6
    assert told.tags.count("table") == 7  # one beside each, and first → last
    assert "100 recorded steps, 12.5 s, 2 samples, 3.1% overhead." in told.told("p")
    assert "step 12, jump: the loss jumped" in told.told("li")
    cells = told.told("td")
    assert {"1 → 0.00105", "50% of the steps", "1.91e-06", "8 of 20"} <= set(cells)


def test_section_stands_between_verdict_and_passes(tmp_path):
    page = page_of(tmp_path, training(), [(3, geometric_flow(0.9))])

    order = [text for tag, text in Page(page).texts if tag != "a"]
    places = [order.index(text) for text in (
        "No problem found.", "Over training", "Events", "The measured pass, step 3", "A note."
    )]  # fmt: skip
    assert places == sorted(places)


def test_headings_do_not_skip(tmp_path):
    page = Page(page_of(tmp_path, training(), [(3, geometric_flow(0.9))]))

    levels = [int(tag[1]) for tag in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_page_loads_nothing(tmp_path):
    text = page_of(tmp_path, training())

    page = Page(text)
    assert page.loaded() == []
    assert not {"link", "img", "image", "iframe", "object"} & set(page.tags)
    without_scripts = re.sub(r"(?s)<script>.*?</script>", "", text)
    assert not re.search(r"https?:|//|url\(|@import|data:", without_scripts)


def test_broken_training_is_marked_in_curves_and_map(tmp_path):
    page = page_of(tmp_path, broken())

    assert "Loss of each step. Red at the upper edge: not finite." in Page(page).told("figcaption")
    loss = page[page.index("Loss of each step, by step") :]
    assert 'stroke="#c33" stroke-width="2"' in loss[: loss.index("</svg>")]
    heat = page[page.index('aria-label="Size of the state gradient') :]
    for colour in (NAN, INFINITE):
        assert f'<path stroke="{colour}"' in heat
    assert "1 → nan" in page
    assert "NaN" in Page(page).told("td")


@pytest.mark.parametrize("history", [History(rows={}), History.of([{}]), training(1)])
def test_history_with_next_to_nothing_is_a_page(history, tmp_path):
    page = Page(page_of(tmp_path, history))

    assert "Over training" in page.told("h2")


def test_hostile_names_are_shown_as_text(tmp_path):
    bad = "<script>alert(1)</script>\"'&"
    history = training(name=bad, events=(Event(kind="clip", step=0, text=bad),))

    text = page_of(tmp_path, history)
    page = Page(text)

    assert page.tags.count("script") == 4  # the data, uPlot, our charts, and what starts them
    assert any(bad in told for told in page.told("h3"))
    assert any(bad in told for told in page.told("li"))


def test_large_training_is_a_small_page(tmp_path):
    steps = 200_000
    noise = np.random.default_rng(0)
    columns = {name: np.exp(noise.normal(size=steps)) for name in training().rows}
    columns |= {"step": np.arange(float(steps)), "nonfinite": np.zeros(steps)}
    samples = tuple(
        Sample(step=step, number=step, reason="cadence",
               layers={f"rnn.l{n}": layer(np.exp(noise.normal(size=800) * 9)) for n in range(8)})
        for step in range(0, steps, 1000)
    )  # fmt: skip
    events = tuple(Event(kind="jump", step=step, text="jumped") for step in range(5000))

    text = page_of(tmp_path, History(rows=columns, samples=samples, events=events))

    assert len(text) < 300_000
    assert "Without a picture: rnn.l6, rnn.l7." in text
    assert "and 4960 more" in text
