"""The nine faults of the probe and their healthy twins, from one batch before any update."""

from __future__ import annotations

import pytest
import torch
from tests.faults.case import SEEDS, Case
from tests.faults.corpus import CASES, MORE
from tests.faults.more import Stack
from tests.faults.scalings import SCALINGS, widened
from torch import nn

import gradreach as gr

ALL = (*CASES, *MORE)


def verdict(case: Case, seed: int, faulty: bool, scaling: str) -> list[gr.Finding]:
    return gr.diagnose(SCALINGS[scaling](case.build(seed, faulty)).measure())


def alarms(findings: list[gr.Finding]) -> list[str]:
    return [finding.code for finding in findings if finding.severity != "note"]


def assert_faulty(case: Case, findings: list[gr.Finding]) -> None:
    """The expected finding stands first; where one batch cannot tell, there is no alarm."""
    if case.code is None:
        assert alarms(findings) == []
    else:
        assert findings[0].code == case.code


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_fault_is_the_first_finding(case, seed):
    assert_faulty(case, verdict(case, seed, True, "as it is"))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_healthy_twin_raises_no_alarm(case, seed):
    assert alarms(verdict(case, seed, False, "as it is")) == []


# The two that fixed thresholds fail on; --slow runs all on all.
@pytest.mark.parametrize("scaling", ["loss × 1e-06", "hidden × 8"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_verdict_is_free_of_scale(case, scaling):
    assert_faulty(case, verdict(case, 0, True, scaling))


@pytest.mark.slow
@pytest.mark.parametrize("faulty", [True, False], ids=["faulty", "twin"])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_every_scaling_leaves_all_findings_as_they_are(case, seed, faulty):
    told = {
        scaling: [(found.code, found.severity, found.layer, found.explains)
                  for found in verdict(case, seed, faulty, scaling)]
        for scaling in SCALINGS
    }  # fmt: skip

    assert all(findings == told["as it is"] for findings in told.values()), told


def test_a_fault_and_its_twin_differ_in_the_verdict_alone_by_one_line():
    # The twins are built from the same seed: what no line changed is the same to the bit.
    case = CASES[4]
    wrong, right = case.build(0, True), case.build(0, False)

    assert torch.equal(wrong.model.rnn.weight_hh_l0, right.model.rnn.weight_hh_l0)
    assert torch.equal(wrong.batch[0], right.batch[0])


LAYERS = {
    "rnn": lambda: nn.RNN(2, 5, batch_first=True),
    "gru": lambda: nn.GRU(2, 5, batch_first=True),
    "lstm": lambda: nn.LSTM(2, 5, batch_first=True),
    "stacked both ways": lambda: nn.GRU(2, 5, 2, batch_first=True, bidirectional=True),
}


@pytest.mark.parametrize("build", LAYERS.values(), ids=LAYERS.keys())
def test_widened_layer_answers_as_before(build):
    model, x = Stack(build()).double(), torch.randn(3, 6, 2, dtype=torch.float64)

    wide = widened(model)

    # float64, six steps: the sums are longer, not other.
    torch.testing.assert_close(wide(x), model(x), rtol=1e-12, atol=1e-12)
    assert wide.rnn.hidden_size == 8 * model.rnn.hidden_size


@pytest.mark.parametrize("build", [nn.LSTM, nn.GRU, nn.RNN])
def test_default_layer_over_100_steps_is_a_warning_that_names_its_condition(build):
    torch.manual_seed(0)
    model, x = Stack(build(2, 32, batch_first=True)), torch.randn(16, 100, 2)

    found = gr.diagnose(gr.measure(model, lambda: model(x).square().mean()))

    assert [(each.code, each.severity) for each in found] == [("vanishing-gradient", "warning")]
    reach = found[0].numbers["reach"]
    assert f"matters only if your task needs more than {reach} steps" in found[0].cause


@pytest.mark.parametrize("dense", [True, False], ids=["every step", "last step"])
@pytest.mark.parametrize("steps", [50, 100])
@pytest.mark.parametrize("shape", [{}, {"num_layers": 2}, {"bidirectional": True}], ids=str)
def test_lstm_that_keeps_its_memory_is_healthy_in_every_shape(shape, steps, dense):
    torch.manual_seed(0)
    model = Stack(nn.LSTM(2, 32, batch_first=True, **shape))
    with torch.no_grad():
        for name, bias in model.rnn.named_parameters():
            if name.startswith("bias"):
                bias[32:64] = 1.5  # torch adds the two: a forget bias of 3
    x = torch.randn(4, steps, 2)

    def loss():
        out = model.rnn(x)[0]
        return model.readout(out if dense else out[:, -1]).square().mean()

    assert alarms(gr.diagnose(gr.measure(model, loss))) == []
