"""Several findings at once: order, causes that absorb symptoms, and wrong arguments."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.diagnosis.by_hand import flow_of, gate, geometric, layer
from tests.faults import c3_detached, c5_closed_gate, c6_expanding
from tests.faults.c3_detached import Loop
from tests.faults.case import LastStepReader, Trial, noise, seeded
from tests.faults.memory import forget_bias
from tests.faults.more import contracting_reader_of_padding

import gradreach as gr
from gradreach.records import NonFinite


def told(findings: list[gr.Finding]) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(found.code, found.severity, found.explains) for found in findings]


def test_detached_and_closed_gate_are_both_told_and_the_gate_explains_the_reach():
    def build() -> Loop:
        model = Loop(detach=True)
        forget_bias(model.cell, -6.0)
        return model

    x, y = noise(4, 100, 2, seed=0), noise(4, 100, 1, seed=1)

    found = gr.diagnose(Trial(seeded(0, build), (x,), y).measure())

    assert told(found) == [
        ("truncated-gradient", "warning", ()),
        ("closed-gate", "warning", ("vanishing-gradient",)),
    ]


def test_padding_that_swallows_the_gradient_is_one_error():
    found = gr.diagnose(contracting_reader_of_padding(0).measure())

    assert told(found) == [("reads-padding", "error", ("vanishing-gradient",))]
    assert "less than 1 % of the gradient gets through the padding" in found[0].cause
    assert "pack_padded_sequence" in found[0].cause


def test_nan_makes_every_other_finding_about_its_layer_void():
    trial = c5_closed_gate.build(0, True)
    trial.batch[0][3, 12, 1] = float("nan")

    found = gr.diagnose(trial.measure())

    assert [each.code for each in found] == ["nonfinite-value"]
    assert found[0].steps == (12, 12)
    assert "step 12, batch row 3" in found[0].cause


def test_half_dead_units_explain_the_reach_of_the_rest():
    def build() -> LastStepReader:
        rnn = c6_expanding.scaled_identity(0.5)
        with torch.no_grad():
            rnn.bias_ih_l0[:20] = -4.0
        return LastStepReader(rnn)

    x, y = noise(16, 100, 2, seed=0), noise(16, 1, seed=1)

    found = gr.diagnose(Trial(seeded(0, build), (x,), y).measure())

    assert told(found) == [("dead-units", "warning", ("vanishing-gradient",))]
    assert found[0].cause.startswith("20 of 32 units (62 %) are dead")


@pytest.mark.parametrize(("needs_lag", "severity"), [(None, "warning"), (50, "error")])
def test_cause_is_at_least_as_severe_as_what_it_explains(needs_lag, severity):
    flow = c5_closed_gate.build(0, True).measure()

    found = gr.diagnose(flow, needs_lag=needs_lag)

    assert told(found) == [("closed-gate", severity, ("vanishing-gradient",))]
    symptom = found[0].numbers["explains"][0]
    assert symptom["severity"] == severity
    assert symptom["layer"] == "rnn.l0"
    assert symptom["numbers"]["reach"] < 10


def test_detached_loop_is_an_error_for_a_task_that_looks_further():
    flow = c3_detached.build(0, True).measure()

    (found,) = gr.diagnose(flow, needs_lag=50)

    assert found.severity == "error"
    assert "the reach is 10 steps at most; your task needs 50" in found.cause


def test_findings_are_sorted_by_severity_then_cause_before_symptom():
    closed = {"f": gate(*[0.01] * 8)}
    flow = flow_of(
        layer(np.ones(50), name="a.l0", kind="lstm", gates=closed),  # a note
        layer(geometric(0.5, 50), name="b.l0"),
        layer(np.ones(50), name="c.l0", kind="relu", dead=np.arange(8) < 4),
        layer(geometric(1.3, 50), name="d.l0"),
        layer([1.0, np.nan], name="e.l0", nonfinite=NonFinite("state", 3, 0)),
    )

    found = gr.diagnose(flow)

    assert [(each.severity, each.layer) for each in found] == [
        ("error", "e.l0"),
        ("error", "d.l0"),
        ("warning", "c.l0"),
        ("warning", "b.l0"),
        ("note", "a.l0"),
    ]


def test_cause_in_one_layer_explains_nothing_in_another():
    closed = {"f": gate(*[0.01] * 8)}
    flow = flow_of(
        layer(np.ones(50), name="a.l0", kind="lstm", gates=closed),
        layer(geometric(0.5, 50), name="b.l0"),
    )

    assert told(gr.diagnose(flow)) == [
        ("vanishing-gradient", "warning", ()),
        ("closed-gate", "note", ()),
    ]


def test_cut_module_is_told_once_for_all_its_layers():
    profile = np.where(np.arange(40) < 10, 1.0, 0.0)
    cut = {"detached_steps": (10, 20, 30), "loss_steps": (39,)}
    names = ("rnn.l0", "rnn.l1")

    found = gr.diagnose(flow_of(*(layer(profile, name=name, **cut) for name in names)))

    assert told(found) == [("truncated-gradient", "warning", ("vanishing-gradient",) * 2)]
    assert found[0].numbers["layers"] == ["rnn.l0", "rnn.l1"]


def test_random_bits_are_not_taken_for_padding():
    # Half of the rows end in equal bits, and the loss is read there: tails of many lengths.
    bits = (noise(64, 12, 1, seed=0) > 0).float().repeat(1, 1, 2)
    bits[:48, -2] = bits[:48, -1]  # not by half a chance: in three quarters of the rows
    trial = Trial(seeded(0, lambda: LastStepReader(c5_closed_gate.gated(3.0))), (bits,),
                  noise(64, 1, seed=1))  # fmt: skip
    flow = trial.measure()
    assert flow.layers["rnn"].tail_gradient_share > 0.5

    assert [found.code for found in gr.diagnose(flow)] == []


def test_diagnosis_of_a_loaded_record_is_the_same():
    flow = c5_closed_gate.build(0, True).measure()

    loaded = gr.GradientFlow.from_dict(flow.to_dict())

    assert gr.diagnose(loaded) == gr.diagnose(flow)


def test_diagnose_refuses_what_is_no_measurement():
    with pytest.raises(
        TypeError, match=r"'record' must be a GradientFlow or a History; got Linear: pass what"
    ):
        gr.diagnose(torch.nn.Linear(1, 1))


@pytest.mark.parametrize("wrong", [0, -3, 2.5, True, "ten"])
def test_diagnose_refuses_a_lag_that_is_no_number_of_steps(wrong):
    with pytest.raises(ValueError, match=r"'needs_lag' must be a number of steps, 1 or more; got"):
        gr.diagnose(flow_of(layer(np.ones(3))), needs_lag=wrong)
