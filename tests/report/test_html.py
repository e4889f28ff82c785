"""The report is one valid page that loads nothing and shows hostile names as text."""

from __future__ import annotations

import itertools
import re
from html.parser import HTMLParser

import pytest
import torch
from tests.report.flows import flow_of, geometric_flow, named_flow
from torch import nn

from gradreach import __version__
from gradreach.report.html import Section, render_report, write_report
from gradreach.report.sentences import percent
from gradreach.report.stretches import stretches

VOID = {"meta", "br", "hr", "img", "input", "link"}
LOADING = {"src", "href", "srcset", "data", "action", "poster", "xlink:href"}


class Page(HTMLParser):
    """Reads a page strictly: every tag is closed in order; tags, attributes, texts are kept."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data):
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", " ".join(data.split())))

    def loaded(self) -> list[tuple[str, str | None]]:
        """Attributes that would make a browser fetch something; a link into the page does not."""
        return [
            (name, value)
            for name, value in self.attributes
            if name in LOADING and not (value or "").startswith("#")
        ]

    def told(self, tag: str) -> list[str]:
        return [text for at, text in self.texts if at == tag]


def fading() -> Section:
    return Section(
        title="At the start",
        flow=geometric_flow(0.5, steps=40, every_step=True),
        last_step=geometric_flow(0.5, steps=40),
        remarks=("A remark.",),
    )


@pytest.fixture
def section():
    return fading()


@pytest.fixture
def text(section):
    return render_report(
        "A title", ["First verdict.", "Second."], [section], notes=["A note."], unit="word"
    )


def test_page_is_well_formed_and_its_headings_do_not_skip(text):
    page = Page(text)

    levels = [int(tag[1]) for tag in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert text.startswith('<!doctype html>\n<html lang="en">')
    assert page.tags.count("main") == 1


def test_page_loads_nothing(text):
    page = Page(text)

    assert page.loaded() == []
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & set(page.tags)
    assert not re.search(r"https?:|//|url\(|@import", text)
    # Even what might slip in: the page forbids its browser to fetch anything.
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes


def test_page_follows_light_and_dark(text):
    assert "prefers-color-scheme: dark" in text
    assert "color-scheme: light dark" in text


def test_verdict_stands_before_the_first_measurement(text):
    page = Page(text)
    order = [content for _, content in page.texts]

    assert order.index("First verdict.") < order.index("Second.") < order.index("At the start")


def test_page_shows_the_measured_numbers(section, text):
    page = Page(text)
    cells = page.told("td")

    for lag in (0, 1, 2, 3, 5, 10):
        assert f"{100 * 0.5**lag:.3g} %" in cells
    for part in stretches(section.last_step.layers["rnn"]):
        assert percent(part.share) in cells
    assert "Of a word's loss, less than 1 % of the gradient is left 7 words back." in page.told("p")
    assert page.tags.count("svg") == 4  # what is left, by distance, by position, Jacobian
    assert page.tags.count("table") == 4


def test_reach_is_marked_in_the_picture_of_the_profile(text):
    svg = text[text.index("<svg") : text.index("</svg>")]
    right, left, width = 10, 52, 560  # the plot's frame
    expected = left + 7 / 39 * (width - left - right)

    marks = re.findall(r'<line x1="([\d.]+)" x2="\1"', svg)
    assert [float(x) for x in marks] == [pytest.approx(expected, abs=0.05)]


def test_page_says_how_it_was_measured(text):
    page = Page(text)
    notes = " ".join(page.told("li"))

    assert "8 of 40 loss steps followed back" in notes
    assert re.search(r"add up to torch's own gradient within \de-\d\d of it \(float32", notes)
    assert re.search(r"Forward and backward pass [\d.e-]+ s, measuring [\d.e-]+ s\.", notes)
    assert f"gradreach {__version__}, torch {torch.__version__}, Python 3." in notes
    assert "A note." in notes


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "</title></svg><svg onload=alert(1)>",
        "{{ 7 * 7 }}{% raw %}",
    ],
)
def test_hostile_names_are_shown_as_text(name):
    flow = named_flow(name)
    section = Section(title=name, flow=flow, remarks=(name,))

    text = render_report(name, [name], [section], notes=[name], unit="step")

    page = Page(text)
    assert not {"script", "img"} & set(page.tags)
    assert not [key for key, _ in page.attributes if key.startswith("on")]
    assert f"{name}.l0" in page.told("h3")
    assert page.told("h1") == [name]


def test_layer_with_nothing_to_draw_still_has_its_place():
    rnn, x = nn.RNN(1, 3, nonlinearity="relu"), torch.full((5, 1, 1), torch.nan)
    flow = flow_of(nn.ModuleDict({"rnn": rnn}), lambda: rnn(x)[0])

    page = Page(render_report("t", [], [Section(title="s", flow=flow, last_step=flow)]))

    assert "rnn.l0" in page.told("h3")
    assert any("NaN" in sentence for sentence in page.told("p"))


def test_ragged_batch_has_no_picture_by_distance():
    rnn, x = nn.GRU(2, 4), torch.randn(20, 2, 2)
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([20, 9]))
    flow = flow_of(nn.ModuleDict({"rnn": rnn}), lambda: rnn(packed)[1])

    page = Page(render_report("t", [], [Section(title="s", flow=flow, last_step=flow)]))

    assert not any("by distance" in told for told in page.told("title"))
    assert page.tags.count("svg") == 4  # what is left, by position, Jacobian, gates


def test_report_is_written_as_rendered_and_stays_small(section, tmp_path):
    write_report(tmp_path / "new" / "report.html", "t", ["v"], [section])

    written = (tmp_path / "new" / "report.html").read_text(encoding="utf-8")
    assert written == render_report("t", ["v"], [section])
    assert len(written) < 300_000
