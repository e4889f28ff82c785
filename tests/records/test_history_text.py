"""A printed history fits a terminal and says how the training began, stands, and broke."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from tests.records.trainings import broken, layer, training

from gradreach.records import Event, History, Sample


def test_screenful_says_first_and_last_of_every_quantity():
    lines = str(training()).splitlines()

    assert lines[0] == "100 recorded steps, 12.5 s, 2 samples, 3.1% overhead"
    starts = [" ".join(line.split()[:-1]) for line in lines[1:]]
    assert starts[:1] == ["loss 1 → 0.00105"]
    assert "gradient norm 0.5 → 4" in starts
    assert lines[3].split()[:5] == ["after", "clipping", "0.5", "→", "1"]
    assert lines[3].endswith("  50% of the steps")
    assert "update / weight 0.001 → 0.001" in starts
    assert "learning rate 0.001 → 0.001" in starts
    assert lines[6].startswith("  reach rnn.l0         7 → 8 ")
    assert lines[6].endswith("  of 20 timesteps")
    assert lines[7:] == ["  events: 1 × jump", "  first: step 12, jump: the loss jumped"]


@pytest.mark.parametrize("history", [training(), broken(), training(1), training(100_000),
                                     training(name="encoder." * 20 + "l0")])  # fmt: skip
def test_no_line_is_wider_than_a_terminal(history):
    assert max(map(len, str(history).splitlines())) <= 80


def test_broken_training_says_since_when():
    text = str(broken())

    assert "loss                 1 → nan" in text
    assert "not finite: 40, from 60" in text
    assert "·" in text


def test_what_was_not_recorded_has_no_line():
    text = str(History.of([{"loss": 1.0}, {}, {"loss": 0.5}]))

    assert text.splitlines() == [
        "3 recorded steps",
        "  loss                 1 → 0.5" + " " * 17 + "█▁",
    ]


def test_training_that_never_clipped_has_no_line_for_it():
    history = training()
    same = dict(history.rows) | {"clipped_norm": history["gradient_norm"] * (1 - 1e-7)}

    assert "clipping" not in str(History(rows=same))


def test_sparse_rows_are_told_from_the_steps_made():
    rows = [{"step": step, "loss": 1.0} for step in (0, 1, 2, 32, 64)]

    assert str(History.of(rows)).startswith("65 optimizer steps, 5 of them recorded\n")


def test_empty_history_prints():
    assert str(History(rows={})) == "0 recorded steps"


def test_event_of_many_lines_is_one_line():
    events = (Event(kind="fault", step=3, text="a\nb\n" + "c" * 200),)

    assert str(History(rows={}, events=events)).splitlines()[2] == (
        "  first: step 3, fault: a b " + "c" * 51 + "…"
    )


def test_every_layer_up_to_six_has_its_reach():
    layers = {f"rnn.l{n}": layer(np.ones(4)) for n in range(9)}
    history = History(rows={}, samples=(Sample(step=0, number=0, reason="start", layers=layers),))

    assert str(history).count("reach rnn.l") == 6


def test_notebook_shows_the_same_with_names_as_text():
    history = training(name="<script>alert(1)</script>",
                       events=(Event(kind="clip", step=0, text="<b>"),))  # fmt: skip
    tags = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append(tag)

    fragment = history._repr_html_()
    parser.feed(fragment)

    assert {"table", "li"} <= set(tags)
    assert not {"script", "b"} & set(tags)
    assert "<td>1 → 0.00105</td>" in fragment


def test_repr_is_one_short_line():
    assert repr(training()) == "<History of 100 steps, 2 samples>"


def test_layer_whose_profile_is_nan_has_no_reach():
    sick = replace(layer(np.full(80, np.nan), reach=80), lag_profile=np.full(80, np.nan))
    samples = [Sample(step=step, number=step, reason="start", layers={"rnn.l0": each})
               for step, each in enumerate((layer(np.ones(80), reach=13), sick))]  # fmt: skip

    text = str(History(rows={}, samples=tuple(samples)))

    assert "reach rnn.l0         13 → 13" in text
