"""Small trainings with one wrong line, and their healthy twins, watched as a user would."""

from __future__ import annotations

import pytest
from tests.faults.training.corpus import FAULTS
from tests.faults.training.scaled import SCALED
from tests.faults.training.training import train
from tests.faults.training.verdict import alarms, is_found, reasons

# Seeds 0 and 1 are those the thresholds were set with; proofs/training_faults.py runs others.
SEED = 0
BY_NAME = {str(fault): fault for fault in FAULTS}

# The five reasons of a loss that stands still, and one of each of the others; --slow runs all.
FAST = (
    "rate too high: Adam 3, lstm",
    "rate too low: SGD 1e-5, rnn",
    "vanishing: radius 0.3, SGD",
    "dead: bias -9, SGD",
    "exploding recurrence: 1.3 I, SGD, clipped",
    "clip before unscale: SGD, lstm",
    "clipped a hundredfold: SGD, rnn",
    "not finite: NaN in the data, lstm",
)

faults = pytest.mark.parametrize("fault", FAULTS, ids=str)


def test_there_are_enough_faults_of_enough_kinds():
    assert len(FAULTS) >= 40
    assert len({fault.kind for fault in FAULTS}) >= 10
    assert len(BY_NAME) == len(FAULTS)


@pytest.mark.parametrize("name", FAST)
def test_fault_over_training_is_the_first_finding(name):
    _, found = train(BY_NAME[name].build(SEED, True))

    assert is_found(BY_NAME[name], found), list(map(str, found))


@pytest.mark.parametrize("name", [FAST[0], FAST[6]])
def test_healthy_training_raises_no_alarm(name):
    _, found = train(BY_NAME[name].build(SEED, False))

    assert alarms(found) == []


def test_exploding_gradient_carries_the_stagnation_it_makes():
    """The article that this project began with: updates of an exploding gradient undo each step."""
    fault = BY_NAME["exploding recurrence: 1.3 I, SGD, clipped"]

    _, found = train(fault.build(1, True))

    assert found[0].code == "exploding-gradient"
    assert "stagnated-training" in found[0].explains
    assert "updates-undo-each-other" in reasons(found[0])


@pytest.mark.slow
@faults
@pytest.mark.parametrize("seed", [0, 1])
def test_every_fault_over_training_is_the_first_finding(fault, seed):
    _, found = train(fault.build(seed, True))

    assert is_found(fault, found), list(map(str, found))


@pytest.mark.slow
@faults
@pytest.mark.parametrize("seed", [0, 1])
def test_every_healthy_twin_raises_no_alarm(fault, seed):
    _, found = train(fault.build(seed, False))

    assert alarms(found) == []


@pytest.mark.slow
@pytest.mark.parametrize("faulty", [True, False], ids=["faulty", "twin"])
@pytest.mark.parametrize("scaling", SCALED)
@pytest.mark.parametrize("name", FAST)
def test_scaling_the_run_leaves_its_verdict(name, scaling, faulty):
    fault = BY_NAME[name]

    _, found = train(SCALED[scaling](fault.build(SEED, faulty)))

    assert is_found(fault, found) if faulty else alarms(found) == []
