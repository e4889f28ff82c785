"""The sentences say what was measured: numbers against closed forms, words by kind of flow."""

from __future__ import annotations

import math
import re

import pytest
import torch
from tests.report.flows import flow_of, geometric_flow, scaled_identity
from torch import nn

import gradreach
from gradreach.report.sentences import (
    change_sentence,
    percent,
    reach_sentence,
    share_sentence,
    verdict,
)
from gradreach.report.stretches import stretches


@pytest.mark.parametrize("gain", [0.3, 0.5, 0.8])
def test_fading_gradient_is_told_with_the_lag_of_the_closed_form(gain):
    flow = geometric_flow(gain)
    lag = math.floor(math.log(0.01) / math.log(gain)) + 1

    told = reach_sentence(flow.layers["rnn"], unit="day")

    assert told == (
        f"rnn.l0: of a day's loss, less than 1 % of the gradient is left {lag} days back."
    )
    assert verdict(flow, unit="day") == [
        f"The gradient fades: less than 1 % of it is left {lag} days back (of 30 measured)."
    ]


def test_reach_of_one_step_is_singular():
    told = reach_sentence(geometric_flow(0.001).layers["rnn"])

    assert told.endswith("is left 1 step back.")


def test_preserved_gradient_is_told_as_left():
    flow = geometric_flow(1.0)

    assert reach_sentence(flow.layers["rnn"]) == (
        "rnn.l0: of a step's loss, 100 % of the gradient is left 29 steps back, the farthest "
        "measured."
    )
    assert verdict(flow) == [
        "The gradient reaches all the way back: 100 % of it is left in rnn.l0 after 29 steps, "
        "the farthest measured."
    ]


def test_growing_gradient_is_told_as_explosion():
    flow = geometric_flow(1.5)
    times = f"{1.5**29:,.3g}"  # 1.28e+05

    assert f"it is {times} times as large 29 steps back" in reach_sentence(flow.layers["rnn"])
    assert verdict(flow) == [
        f"The gradient explodes on its way back: in rnn.l0 it is {times} times as large 29 steps "
        "back."
    ]


def test_slow_growth_is_no_explosion():
    assert "explodes" not in verdict(geometric_flow(1.05))[0]  # 1.05**29 = 4.1


def test_nonfinite_gradient_is_told_before_anything_else():
    rnn, x = scaled_identity(0.5)
    x[3, 1] = math.nan

    flow = flow_of(nn.ModuleDict({"rnn": rnn}), lambda: rnn(x)[0][-1])

    said = verdict(flow)
    assert len(said) == 1
    assert said[0].startswith("The gradient is not finite (rnn.l0: first NaN")
    assert "repair that before anything else" in said[0]
    assert "NaN" in reach_sentence(flow.layers["rnn"])


def test_cut_off_past_is_named():
    cell = nn.RNNCell(1, HIDDEN := 4)
    x = torch.randn(30, 2, 1)

    def closure():
        h = torch.zeros(2, HIDDEN)
        for step in range(30):
            h = cell(x[step], h.detach() if step % 10 == 0 and step else h)
        return h.sum()

    said = verdict(gradreach.measure(nn.ModuleDict({"cell": cell}), closure))

    assert "The past is cut off: the state entering cell at steps 10, 20 is detached." in said


def test_layer_not_measured_is_named():
    model = nn.ModuleDict({"used": nn.GRU(1, 4), "idle": nn.LSTM(1, 4)})
    x = torch.randn(30, 2, 1)

    said = verdict(flow_of(model, lambda: model["used"](x)[0][-1]))

    assert re.search(r"^Not measured: idle \(LSTM\): ", said[-1])


def test_one_step_has_nothing_to_reach_back_to():
    rnn, x = scaled_identity(0.5, steps=1)

    flow = flow_of(nn.ModuleDict({"rnn": rnn}), lambda: rnn(x)[0])

    assert "one word; there is nothing to reach" in reach_sentence(flow.layers["rnn"], unit="word")
    assert verdict(flow) == ["No layer's gradient could be followed over more than one step."]


def test_reverse_layer_is_told_to_look_ahead():
    torch.manual_seed(0)
    rnn, x = nn.RNN(2, 8, bidirectional=True), torch.randn(40, 2, 2)

    flow = flow_of(nn.ModuleDict({"rnn": rnn}), lambda: rnn(x)[0] ** 2)

    assert "ahead (it reads backwards)" in reach_sentence(flow.layers["rnn.l0_reverse"])
    assert "ahead" not in reach_sentence(flow.layers["rnn.l0"])


def test_change_is_told_with_both_reaches_and_both_losses():
    before, after = geometric_flow(0.5), geometric_flow(1.0)

    told = change_sentence("nn.RNN", before, after, steps=1)

    assert told == (
        f"nn.RNN: at the start the gradient falls below 1 % 7 steps back; after 1 training step "
        f"(loss {before.loss:.3g} → {after.loss:.3g}) it stays above 1 % all 29 steps back."
    )


def test_share_sentence_names_the_nearest_and_the_farthest_stretch():
    layer = geometric_flow(0.5, steps=40).layers["rnn"]
    parts = stretches(layer)

    told = share_sentence(layer, parts, unit="day")

    assert told == (
        f"rnn.l0: the last 3 days give {percent(parts[0].share)} of this gradient, those more "
        "than 30 back ≈0 %."
    )


@pytest.mark.parametrize(
    ("share", "told"),
    [(1.0, "100 %"), (0.0995, "10 %"), (0.00994, "0.99 %"), (-0.5, "-50 %"), (-1e-9, "≈0 %")],
)
def test_percent_keeps_two_digits_and_the_sign(share, told):
    assert percent(share) == told
