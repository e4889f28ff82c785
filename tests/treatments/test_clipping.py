"""Clipping right before the step: against hand-written loops, and thresholds from what was seen."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

import gradreach
from gradreach.records import Finding
from gradreach.treatments import (
    Interception,
    NormClipping,
    OptimizerFacts,
    PercentileClipping,
    RunFacts,
    TreatmentError,
    UnitClipping,
    ValueClipping,
    clip_grad_percentile_,
    clip_grad_units_,
    treat,
)


def finding(**changes) -> Finding:
    given = {
        "code": "exploding-gradient", "severity": "error", "cause": "c", "counter_check": "k",
        "remedies": ("clipping", "learning_rate"),
    }  # fmt: skip
    return Finding(**(given | changes))


FACTS = RunFacts(
    optimizers=(OptimizerFacts(kind="SGD", lr=0.1),),
    gradient_norms={0.1: 0.123456, 0.5: 4.56, 0.9: 1e9},
)


def weights_after(treatment, *, clip=None, accumulate=1, steps=3):
    """Train a layer with a treatment, or with a clip by hand before each step."""
    torch.manual_seed(0)
    layer = nn.GRU(2, 3)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5, momentum=0.9)
    if treatment is not None:
        treatment.apply(layer, optimizer)
    for _ in range(steps):
        optimizer.zero_grad()
        for _ in range(accumulate):
            (layer(torch.randn(5, 2, 2))[0] * 10).square().mean().backward()
        if clip is not None:
            clip(layer)
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in layer.parameters()])


CASES = [
    (NormClipping(0.3), lambda its: clip_grad_norm_(its.parameters(), 0.3)),
    (ValueClipping(0.02), lambda its: clip_grad_value_(its.parameters(), 0.02)),
]


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize(("treatment", "by_hand"), CASES)
def test_applied_clipping_is_a_line_before_the_step(treatment, by_hand, accumulate):
    mine = weights_after(treatment, accumulate=accumulate)

    assert torch.equal(mine, weights_after(None, clip=by_hand, accumulate=accumulate))
    assert not torch.equal(mine, weights_after(None, accumulate=accumulate))


def test_unit_clipping_is_the_rule_of_the_paper_row_by_row():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[0].weight.data[1] = 0
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    before = copy.deepcopy([p.grad for p in model.parameters()])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    clip_grad_units_(optimizer, 0.05)

    def clipped(g, w):
        most = 0.05 * max(np.linalg.norm(w), 1e-3)
        return g * min(1.0, most / np.linalg.norm(g))

    weight, bias = (p.detach().numpy() for p in model[0].parameters())
    rows = [clipped(g, w) for g, w in zip(before[0].numpy(), weight, strict=True)]
    np.testing.assert_allclose(model[0].weight.grad, np.stack(rows), rtol=1e-5)
    np.testing.assert_allclose(model[0].bias.grad, clipped(before[1].numpy(), bias), rtol=1e-5)
    assert torch.equal(model[1].weight.grad, before[2])  # the output layer
    assert torch.equal(model[1].bias.grad, before[3])


def test_unit_without_any_gradient_stays_without():
    weight = torch.zeros(2, 2, requires_grad=True)
    weight.grad = torch.zeros(2, 2)

    clip_grad_units_(torch.optim.SGD([weight]), 0.01, last=True)

    assert torch.equal(weight.grad, torch.zeros(2, 2))


def test_percentile_clipping_keeps_the_history_of_each_optimizer():
    weights = [torch.ones(3, requires_grad=True) for _ in range(2)]
    optimizers = [torch.optim.SGD([weight]) for weight in weights]
    norms: list[float] = []

    for n in range(1, 30):
        for weight, scale in zip(weights, (1.0, 100.0), strict=True):
            weight.grad = torch.randn(3) * n * scale
        norms.append(weights[0].grad.norm().item())
        for optimizer in optimizers:
            clip_grad_percentile_(optimizer, 25.0)

        expected = min(np.percentile(norms, 25.0), norms[-1])
        assert weights[0].grad.norm().item() == pytest.approx(expected, rel=1e-4)


def test_percentile_clipping_leaves_and_forgets_a_gradient_that_is_not_finite():
    weight = torch.ones(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight])
    for value in (1.0, float("nan"), 3.0):
        weight.grad = torch.tensor([value])
        clip_grad_percentile_(optimizer, 0.0)

    assert weight.grad.item() == pytest.approx(1.0, rel=1e-5)


def test_script_s_own_clipping_is_off_and_its_place_noted():
    weight = torch.ones(2, requires_grad=True)
    with Interception() as run:
        NormClipping(1.0).install(run)
        optimizer = torch.optim.SGD([weight], lr=1.0)
        weight.grad = torch.tensor([3.0, 4.0])
        assert clip_grad_norm_([weight], 0.1).item() == 5.0
        clip_grad_value_([weight], 0.1)
        assert weight.grad.tolist() == [3.0, 4.0]
        optimizer.step()

    assert weight.tolist() == pytest.approx([0.4, 0.2], rel=1e-5)
    assert [site.line for site in run.sites if site.kind == "clip"] == [
        test_script_s_own_clipping_is_off_and_its_place_noted.__code__.co_firstlineno + n
        for n in (6, 7)
    ]
    weight.grad = torch.tensor([3.0, 4.0])
    clip_grad_norm_([weight], 1.0)
    assert weight.grad.norm().item() == pytest.approx(1.0)


def test_thresholds_are_norms_that_were_measured():
    assert [each.norm for each in NormClipping.candidates(finding(), FACTS)] == [4.6, 0.12]
    assert [each.norm for each in NormClipping.candidates(finding(), RunFacts())] == []


def test_candidates_are_none_where_the_finding_names_another_family():
    other = finding(remedies=("gating",))
    for kind in (NormClipping, ValueClipping, UnitClipping, PercentileClipping):
        assert kind.candidates(finding(), FACTS)
        assert kind.candidates(other, FACTS) == []


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: NormClipping(0.0), "'norm' must be a finite number above 0, got 0.0"),
        (lambda: ValueClipping(float("inf")), "'value' must be a finite number above 0"),
        (lambda: UnitClipping(-1.0), "'ratio' must be a finite number above 0"),
        (lambda: PercentileClipping(101.0), "'percentile' must lie from 0 to 100"),
        (lambda: NormClipping(1.0).apply(nn.RNN(1, 1)), "pass the optimizer"),
    ],
)
def test_impossible_numbers_are_refused_with_the_reason(make, said):
    with pytest.raises(TreatmentError, match=said):
        make()


def test_own_clip_call_is_taken_out_under_a_watch_as_well():
    def moved(watched: bool) -> float:
        torch.manual_seed(1)
        layer, x = nn.RNN(2, 3), torch.randn(5, 4, 2)
        with treat("clipping(norm=5.0)"):
            optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
            watch = gradreach.watch(layer, optimizer).start() if watched else None
            before = layer.weight_hh_l0.detach().clone()
            layer(x)[0].square().sum().backward()
            nn.utils.clip_grad_norm_(layer.parameters(), 1e-6)
            optimizer.step()
            if watch is not None:
                watch.stop()
        return float((layer.weight_hh_l0.detach() - before).norm())

    assert moved(True) == moved(False) > 0.1
