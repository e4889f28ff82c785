"""Terminal text fits its width, whatever the model is called, and loses no number."""

from __future__ import annotations

import pytest
from tests.report.flows import geometric_flow, named_flow

from gradreach.report.sentences import percent
from gradreach.report.stretches import Stretch, stretches
from gradreach.report.terminal import flow_lines, profile_lines, share_lines


@pytest.mark.parametrize("name", ["rnn", "encoder_" * 12, "глубокий_слой"])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_flow_fits_its_width(name, width):
    lines = list(flow_lines(named_flow(name), unit="word", width=width))

    assert max(map(len, lines)) <= width
    assert "\x1b" not in "".join(lines)
    # One sentence a layer, wherever its lines break.
    assert "".join("".join(lines).split()).count("ofthegradientisleft") == 2


def test_flow_shows_the_table_and_a_sentence_a_layer():
    text = " ".join(" ".join(flow_lines(geometric_flow(0.5))).split())

    assert "rnn.l0 relu 4 30 7 of 30 ×0.5 " in text
    assert "less than 1 % of the gradient is left 7 steps back." in text


def test_shares_stand_under_their_stretches():
    parts = stretches(geometric_flow(0.9, steps=40).layers["rnn"])

    head, row = share_lines({"rnn.l0": parts}, unit="day")

    assert head.split() == ["days", "back", "last", "3", "4-10", "11-30", "31-40"]
    assert row.split() == ["rnn.l0", *" ".join(percent(part.share) for part in parts).split()]
    assert len(head) == len(row)


def test_long_labels_give_way_to_numbers():
    parts = [Stretch(1, 3, 0.6), Stretch(4, 10, 0.4)]

    lines = list(share_lines({"l" * 200: parts}, width=60))

    assert max(map(len, lines)) <= 60
    assert lines[1].endswith("…    60 %    40 %")


def test_no_rows_give_no_lines():
    assert list(share_lines({})) == []


def test_profile_marks_the_reach_under_its_place():
    layer = geometric_flow(0.5, steps=40).layers["rnn"]

    lines = list(profile_lines(layer))

    assert [len(lines), lines[-2].strip(), lines[-1].split()] == [7, "▲ 7: 1 %", ["0", "39"]]
    assert lines[-2].index("▲") - 2 == round(7 / 39 * 19)
    assert max(map(len, lines)) <= 80
