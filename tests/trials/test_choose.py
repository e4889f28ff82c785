"""Which treatments are tried, in which order, and what is said of the others."""

from __future__ import annotations

import pytest

from gradreach.records.finding import Finding
from gradreach.treatments.facts import LayerFacts, OptimizerFacts, RunFacts
from gradreach.trials.choose import ChoiceError, choose

FACTS = RunFacts(
    layers=(LayerFacts(kind="rnn", hidden_size=8, steps=100),),
    optimizers=(OptimizerFacts(kind="Adam", lr=0.01),),
    sequence_steps=100,
    gradient_norms={0.1: 0.1, 0.5: 0.4, 0.9: 1.0, 1.0: 10.0},
)


def finding(code: str, *remedies: str, severity: str = "warning") -> Finding:
    return Finding(code=code, severity=severity, cause="", counter_check="", remedies=remedies)


def labels(*findings: Finding, facts: RunFacts = FACTS, **options: object) -> list[str]:
    return [each.label for each in choose(findings, facts, **options).treatments]


def test_families_take_turns_in_the_order_of_the_finding():
    found = choose([finding("vanishing-gradient", "gating", "residual", "skip")], FACTS, most=3)

    families = [each.label.partition("(")[0] for each in found.treatments]
    assert families == ["gating", "residual", "skip"]
    assert found.left


def test_a_graver_finding_comes_first():
    names = labels(finding("dead-units", "activation"), finding("vanishing-gradient", "gating"))

    assert names[0].startswith("activation(leaky_relu)")


def test_notes_ask_for_nothing():
    assert labels(finding("stagnated-training", "gating", severity="note")) == []


def test_two_families_that_help_one_another_are_tried_together():
    names = labels(finding("exploding-gradient", "clipping", "learning_rate"))

    assert any("clipping" in name and "learning_rate" in name for name in names)


def test_after_an_explosion_the_usual_threshold_comes_before_measured_ones():
    facts = RunFacts(layers=FACTS.layers, optimizers=FACTS.optimizers,
                     gradient_norms={0.1: 3.0, 0.5: 7000.0, 1.0: 1e12})  # fmt: skip

    names = labels(finding("exploding-gradient", "clipping"), facts=facts)

    assert names[0] == "clipping(norm=1.0)"


def test_a_family_that_the_model_does_not_allow_is_refused_with_its_reason():
    facts = RunFacts(layers=(LayerFacts(kind="lstm", hidden_size=8),), sequence_steps=100)

    found = choose([finding("dead-units", "activation")], facts)

    assert not found.treatments
    assert found.refused[0][0] == "activation" and "nn.RNN" in found.refused[0][1]


def test_no_more_are_tried_than_asked_for_and_none_twice():
    names = labels(
        finding("vanishing-gradient", "gating", "initialization", "activation", "residual", "skip"),
        finding("exploding-gradient", "clipping", "initialization"),
    )

    assert len(names) == len(set(names)) == 8


def test_named_treatments_are_the_only_ones():
    assert labels(finding("dead-units", "activation"), wanted=["gating(GRU)"]) == ["gating(GRU)"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("magic", "neither a family"),
        ("gating(transformer)", "neither a family"),
        ("initialization(chrono, max_lag=10)", "does not fit this training"),
    ],
)
def test_a_name_that_is_none_or_does_not_fit_is_an_error(name, said):
    with pytest.raises(ChoiceError, match=said):
        choose([], FACTS, wanted=[name])
