"""Each rule at its threshold, on records written by hand."""

from __future__ import annotations

import numpy as np
import pytest
from tests.diagnosis.by_hand import flow_of, gate, geometric, layer

import gradreach as gr
from gradreach.records import BlindSpot, NonFinite


def codes(flow: gr.GradientFlow, **how: int) -> list[tuple[str, str]]:
    return [(found.code, found.severity) for found in gr.diagnose(flow, **how)]


def one(flow: gr.GradientFlow, **how: int) -> gr.Finding:
    (found,) = gr.diagnose(flow, **how)
    return found


VANISHES = [("vanishing-gradient", "warning")]
FLAT = [1.0] + [0.003] * 199


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        (geometric(0.5, 14), []),  # reach 7 is half of 14
        (geometric(0.5, 15), VANISHES),  # and less than half of 15
        (geometric(0.3, 9), []),  # nine lags: numbers, no verdict
        (geometric(0.3, 10), VANISHES),
        (geometric(0.3, 1), []),  # a reverse layer of which only the last output is read
        (geometric(1.0, 200), []),
        (FLAT, []),  # an LSTM whose memory travels in c
        ([1.0, 0.003, *0.003 * geometric(0.999, 198)], []),
        ([1.0, 0.003, *0.003 * geometric(0.9, 198)], VANISHES),
        ([1.0, *0.005 * geometric(0.956, 199)], []),  # 0.956^100 = 1.1 %: just not falling
        ([1.0, *0.005 * geometric(0.954, 199)], VANISHES),  # 0.954^100 = 0.9 %
        ([1.0, 0.5] + [0.0] * 20, VANISHES),
        ([1.0, float("nan")] + [0.0] * 20, []),
        ([], [("blind-probe", "note")]),
    ],
)  # fmt: skip
def test_vanishing_needs_a_short_reach_and_a_profile_that_still_falls(profile, expected):
    assert codes(flow_of(layer(profile))) == expected


@pytest.mark.parametrize(
    ("needs_lag", "expected"),
    [(7, []), (8, [("vanishing-gradient", "error")]), (50, [("vanishing-gradient", "error")])],
)
def test_needed_lag_decides_at_the_reach(needs_lag, expected):
    assert codes(flow_of(layer(geometric(0.5, 100))), needs_lag=needs_lag) == expected


def test_needed_lag_gives_a_verdict_on_short_sequences_too():
    found = one(flow_of(layer(geometric(0.05, 6))), needs_lag=4)

    assert (found.code, found.severity) == ("vanishing-gradient", "error")
    assert "your task needs 4 steps" in found.cause


def test_flat_tail_is_no_vanishing_for_a_needed_lag_either():
    assert codes(flow_of(layer(FLAT)), needs_lag=150) == []


def test_lag_beyond_the_batch_is_a_note_about_ourselves():
    found = one(flow_of(layer(np.ones(20))), needs_lag=50)

    assert (found.code, found.severity) == ("blind-probe", "note")
    assert "needs 50 steps, but this batch shows no more than 19 steps back" in found.cause


def test_lag_beyond_the_batch_needs_no_note_where_the_gradient_died_before():
    assert codes(flow_of(layer(geometric(0.1, 20))), needs_lag=50) == [
        ("vanishing-gradient", "error")
    ]


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        (geometric(1.15, 17), []),  # 1.15^16 = 9.4
        (geometric(1.15, 18), [("exploding-gradient", "warning")]),  # 1.15^17 = 10.8
        (geometric(1.15, 33), [("exploding-gradient", "warning")]),  # 1.15^32 = 88
        (geometric(1.15, 34), [("exploding-gradient", "error")]),  # 1.15^33 = 101
        (geometric(5.0, 3), []),  # three lags
        (geometric(5.0, 4), [("exploding-gradient", "error")]),
        ([1.0, 5.0, 20.0] + [20.0] * 50, []),  # levels off
        (1.0 + np.arange(60), []),  # linear: collected along the way, not multiplied
        ([1.0, 3.0, 9.0, 27.0] + [0.0] * 20, [("exploding-gradient", "warning")]),  # then cut
        ([1.0, 3.0, np.inf, np.inf, np.inf], []),
    ],
)
def test_exploding_needs_tenfold_growth_that_goes_on(profile, expected):
    found = [each for each in codes(flow_of(layer(profile))) if each[0] != "vanishing-gradient"]

    assert found == expected


def test_growth_collected_from_the_layer_above_is_no_explosion():
    lower = layer(geometric(1.15, 50), own_lag_profile=np.ones(50))

    assert codes(flow_of(lower)) == []


def test_exploding_tells_the_share_of_the_earliest_steps():
    norms = np.where(np.arange(40) < 4, 9.0, 1.0)
    found = one(flow_of(layer(geometric(1.2, 40), contributions={"weight_hh_l0": norms})))

    assert found.steps == (0, 3)
    assert found.numbers["early_share"] == {"weight_hh_l0": 0.5}
    assert found.cause.startswith("the recurrence expands 1.20× per step: 39 steps back")


@pytest.mark.parametrize(
    ("dead", "steps", "expected"),
    [
        (3, 50, []),
        (4, 50, [("dead-units", "warning")]),
        (8, 50, [("dead-units", "error")]),
        (7, 9, []),  # short: a unit may be off by chance
        (8, 9, [("dead-units", "error")]),
    ],
)
def test_dead_units_are_half_of_a_relu_layer(dead, steps, expected):
    flags = np.arange(8) < dead

    assert codes(flow_of(layer(np.ones(steps), kind="relu", dead=flags))) == expected
    # A slope of 0 by rounding depends on the dtype; a tanh is saturated in both.
    assert codes(flow_of(layer(np.ones(steps), kind="tanh", dead=flags))) == []


@pytest.mark.parametrize(
    ("saturated", "factor", "expected"),
    [
        (3, 1.0, []),
        (4, 1.0, [("saturated-units", "note")]),
        (3, 0.5, [("vanishing-gradient", "warning")]),
        (4, 0.5, [("saturated-units", "warning")]),
    ],
)
def test_saturation_is_a_note_unless_it_explains_a_short_reach(saturated, factor, expected):
    share = np.where(np.arange(8) < saturated, 0.95, 0.94)

    assert codes(flow_of(layer(geometric(factor, 50), saturation=share))) == expected


@pytest.mark.parametrize(
    ("kind", "letter", "closed", "factor", "expected"),
    [
        ("lstm", "f", 4, 0.2, [("closed-gate", "warning")]),
        ("lstm", "f", 3, 0.2, [("vanishing-gradient", "warning")]),
        ("lstm", "f", 4, 1.0, [("closed-gate", "note")]),
        ("lstm", "o", 8, 1.0, []),
        ("gru", "z", 4, 0.2, [("closed-gate", "warning")]),
        ("gru", "r", 8, 1.0, []),
    ],
)
def test_closed_gate_is_the_one_that_keeps_the_memory(kind, letter, closed, factor, expected):
    gates = {letter: gate(*[0.049] * closed, *[0.05] * (8 - closed))}

    found = gr.diagnose(flow_of(layer(geometric(factor, 50), kind=kind, gates=gates)))

    assert [(each.code, each.severity) for each in found] == expected
    if expected and expected[0][0] == "closed-gate":
        assert found[0].gate == letter
        assert f"of {closed} of 8 units is closed" in found[0].cause


@pytest.mark.parametrize(
    ("cuts", "told"),
    [
        ((25,), "at step 25"),
        ((10, 20, 30, 40), "every 10 steps (steps 10, 20, 30, 40)"),
        ((10, 37), "at steps 10, 37"),
        (tuple(range(5, 50, 5)), "every 5 steps (steps 5, 10, 15, …, 45)"),
    ],
)
def test_truncation_names_its_steps(cuts, told):
    found = one(flow_of(layer(np.ones(50), detached_steps=cuts, source="cells", name="cell")))

    assert (found.code, found.severity) == ("truncated-gradient", "warning")
    assert f"the state is detached {told}" in found.cause
    assert found.numbers["detached_steps"] == list(cuts)
    assert found.steps == (cuts[0], cuts[-1])


@pytest.mark.parametrize(("loss_steps", "reach"), [((49,), 10), (tuple(range(50)), 40), ((4,), 5)])
def test_truncated_reach_is_that_of_the_best_placed_loss_step(loss_steps, reach):
    cut = layer(np.ones(50), detached_steps=(40,), loss_steps=loss_steps)

    assert one(flow_of(cut)).numbers["longest_reach"] == reach


@pytest.mark.parametrize(("needs_lag", "severity"), [(10, "warning"), (11, "error")])
def test_truncation_is_an_error_where_the_task_needs_more(needs_lag, severity):
    cut = layer(np.ones(20), detached_steps=(10,), loss_steps=(19,))

    assert codes(flow_of(cut), needs_lag=needs_lag) == [("truncated-gradient", severity)]


@pytest.mark.parametrize(
    ("lasting", "expected"),
    [
        (5, ["truncated-gradient"]),  # held over half of the ten steps: the cut ended it
        (4, ["truncated-gradient", "vanishing-gradient"]),  # would have died without it
    ],
)
def test_truncation_explains_a_reach_that_ends_at_the_cut(lasting, expected):
    profile = np.where(np.arange(40) < lasting, 1.0, 0.0)
    cut = layer(profile, detached_steps=(10, 20, 30), loss_steps=(39,))

    assert [code for code, _ in codes(flow_of(cut))] == expected


@pytest.mark.parametrize(
    ("share", "tails", "expected"),
    [
        (0.5, (30, 40), ["reads-padding"]),
        (0.49, (30, 40), []),
        (1.0, (30, 30), []),  # all end at once: a pause that the task has
        (1.0, (30, 50), []),  # one tail alone starts at no different step
        (float("nan"), (30, 40), []),
    ],
)
def test_padding_is_tails_of_different_lengths_that_take_half_the_gradient(share, tails, expected):
    padded = layer(np.ones(50), tail_gradient_share=share, constant_tails=np.array(tails))

    assert [code for code, _ in codes(flow_of(padded))] == expected


@pytest.mark.parametrize(("reach", "severity"), [(16, "warning"), (15, "error")])
def test_padding_is_an_error_where_the_gradient_does_not_cross_it(reach, severity):
    profile = np.where(np.arange(50) < reach, 1.0, 0.0)
    padded = layer(profile, tail_gradient_share=1.0, constant_tails=np.array([30, 40]))

    assert codes(flow_of(padded)) == [("reads-padding", severity)]  # the median tail is 15


@pytest.mark.parametrize(
    ("first", "where", "remedies"),
    [
        (NonFinite("weight weight_hh_l0", -1, -1), None, ("learning_rate", "clipping")),
        (NonFinite("input", 4, 1), (4, 4), ()),
        (NonFinite("state", 4, 1), (4, 4), ("initialization", "activation")),
        (NonFinite("gradient", 4, 1), (4, 4), ()),
    ],
)
def test_nonfinite_names_the_place(first, where, remedies):
    found = one(flow_of(layer([1.0, np.nan], nonfinite=first)))

    assert (found.code, found.severity) == ("nonfinite-value", "error")
    assert str(first) in found.cause
    assert found.steps == where
    assert found.remedies == remedies


@pytest.mark.parametrize(
    ("lower", "upper", "origin"),
    [
        ("state", "input", "rnn.l0"),  # forward values spread upwards
        ("gradient", "gradient", "rnn.l1"),  # gradients spread downwards
        ("gradient", "state", "rnn.l1"),
        ("state", "weight weight_ih_l1", "rnn.l1"),
    ],
)
def test_nonfinite_is_told_once_where_it_began(lower, upper, origin):
    flow = flow_of(
        layer([1.0, np.nan], nonfinite=NonFinite(lower, 3, 0)),
        layer([1.0, np.nan], name="rnn.l1", nonfinite=NonFinite(upper, 3, 0)),
    )

    found = one(flow)

    assert found.layer == origin
    assert found.numbers["layers"] == ["rnn.l0", "rnn.l1"]


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_loss_that_is_not_finite_above_finite_layers_is_told(loss):
    found = one(flow_of(layer(np.ones(5)), loss=loss))

    assert (found.code, found.layer) == ("nonfinite-value", None)
    assert f"the loss is {loss}" in found.cause


def test_blind_probe_tells_what_was_not_measured():
    flow = flow_of(
        layer([], state_gradient_norms=np.ones(5), transformed_steps=(2,)),
        layer([], name="deep.l0", state_gradient_norms=np.zeros(5)),
        blind=(BlindSpot("decoder", "GRU", "'closure' did not call it"),),
    )

    found = gr.diagnose(flow)

    assert [each.layer for each in found] == ["decoder", "rnn.l0", "deep.l0"]
    assert {each.severity for each in found} == {"note"}
    causes = [each.cause for each in found]
    assert causes[0] == "decoder (GRU) was not measured: 'closure' did not call it"
    assert "changed between steps" in causes[1]
    assert "no gradient of the loss arrives" in causes[2]
