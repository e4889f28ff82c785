"""Learning rates: factors, schedules that multiply with others, plateaus, the range test."""

from __future__ import annotations

import math

import pytest
import torch
from torch.optim import lr_scheduler

from gradreach.records import Finding
from gradreach.treatments import (
    Cosine,
    FoundRate,
    LearningRate,
    OptimizerFacts,
    Plateau,
    RunFacts,
    TreatmentError,
    WarmUp,
    treatment_from,
)
from gradreach.treatments.lr_finder import best_factor


def rates_used(treatments, steps=8, schedule=None, **options):
    """Return the rate of each step of SGD on a constant gradient of 1."""
    weight = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([weight], **({"lr": 0.5} | options))
    for treatment in treatments:
        treatment.apply(None, optimizer)
    scheduler = schedule(optimizer) if schedule else None
    used = []
    for _ in range(steps):
        before = weight.item()
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        used.append(before - weight.item())
        if scheduler:
            scheduler.step()
    return used


SCHEDULES = {
    "none": None,
    "step": lambda its: lr_scheduler.StepLR(its, 2, gamma=0.5),
    "lambda": lambda its: lr_scheduler.LambdaLR(its, lambda n: 1 / (n + 1)),
    "one-cycle": lambda its: lr_scheduler.OneCycleLR(its, max_lr=0.3, total_steps=10),
    "cosine": lambda its: lr_scheduler.CosineAnnealingLR(its, 8),
}


@pytest.mark.parametrize("name", list(SCHEDULES))
@pytest.mark.parametrize(
    "treatment", [LearningRate(0.1, each_step=True), WarmUp(5), Cosine(6)], ids=str
)
def test_what_acts_at_each_step_multiplies_with_any_schedule(name, treatment):
    control = rates_used([], schedule=SCHEDULES[name])

    treated = rates_used([treatment], schedule=SCHEDULES[name])

    factor = getattr(treatment, "factor_of", lambda step: 0.1)
    expected = [rate * factor(step) for step, rate in enumerate(control)]
    assert treated == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", ["none", "step", "lambda", "cosine"])
def test_a_factor_on_the_constructor_s_rate_passes_through_relative_schedules(name):
    control = rates_used([], schedule=SCHEDULES[name])

    treated = rates_used([LearningRate(0.25)], schedule=SCHEDULES[name])

    assert treated == pytest.approx([0.25 * rate for rate in control], rel=1e-9)


def test_several_factors_multiply_and_leave_the_rate_as_it_was():
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    treatment_from("learning_rate(warm_up=4) + learning_rate(factor=0.5)").apply(None, optimizer)
    LearningRate(0.5, each_step=True).apply(None, optimizer)
    for _ in range(2):
        weight.grad = torch.ones(1)
        optimizer.step()

    assert weight.item() == pytest.approx(-(0.25 + 0.5) * 0.25)
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_a_rate_set_by_the_script_between_steps_holds():
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    WarmUp(2).apply(None, optimizer)
    for rate in (1.0, 10.0, 100.0):
        optimizer.param_groups[0]["lr"] = rate
        weight.grad = torch.ones(1)
        optimizer.step()

    assert weight.item() == pytest.approx(-(0.5 + 10 + 100))


def test_factor_reaches_groups_of_their_own_and_those_added_later():
    first, second, third = (torch.zeros(1, requires_grad=True) for _ in range(3))
    optimizer = torch.optim.SGD([{"params": [first], "lr": 2.0}, {"params": [second]}], lr=1.0)
    LearningRate(0.1).apply(None, optimizer)
    optimizer.add_param_group({"params": [third]})

    assert [group["lr"] for group in optimizer.param_groups] == [0.2, 0.1, 0.1]


def test_plateau_halves_the_rate_when_windows_stop_improving():
    weight = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    Plateau(3).apply(None, optimizer)
    used = []
    for loss in [5, 4, 3, 2, 2, 2, 2, 2, 2, 2.5, 2, 2, 1, 1, 1]:
        before = weight.item()
        optimizer.zero_grad()
        (weight - weight.detach() + loss).sum().backward()
        optimizer.step()
        used.append(before - weight.item())

    assert used == [1.0] * 9 + [0.5] * 3 + [0.25] * 3


def test_plateau_sees_the_loss_without_a_scaler_s_factor():
    weight = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    Plateau(1).apply(None, optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=1, growth_factor=4.0)
    before = []
    for loss in (3.0, 2.0, 1.0):  # times 4, 16, 64 it would rise
        optimizer.zero_grad()
        scaler.scale((weight - weight.detach() + loss).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        before.append(weight.item())

    assert before == [-1.0, -2.0, -3.0]


def valley(treatment, lr, steps):
    torch.manual_seed(0)
    weight = torch.randn(5, dtype=torch.float64, requires_grad=True)
    start = weight.detach().clone()
    optimizer = torch.optim.Adam([weight], lr=lr)
    if treatment is not None:
        treatment.apply(None, optimizer)
    after = []
    for _ in range(steps):
        optimizer.zero_grad()
        (weight**2).sum().backward()
        optimizer.step()
        after.append(weight.detach().clone())
    return start, after, optimizer


@pytest.mark.parametrize("lr", [1e-5, 100.0])
def test_range_test_puts_back_weights_and_state_and_finds_a_rate_that_works(lr):
    start, after, optimizer = valley(FoundRate(100), lr, 300)

    tested = next(n for n, weight in enumerate(after) if torch.equal(weight, start))
    assert tested < 100
    _, control, _ = valley(None, lr, 200)
    assert (after[-1] ** 2).sum() < 0.1 * (start**2).sum()
    assert (after[-1] ** 2).sum() < 0.5 * (control[-1] ** 2).sum()
    steps = next(iter(optimizer.state.values()))["step"].item()
    assert steps == 300 - (tested + 1)  # Adam's own count began anew


@pytest.mark.parametrize(
    ("losses", "factor"),
    [
        ([1.0, 2.0, 3.0, 4.0], 1.0),  # never fell
        ([math.nan], 1.0),
        ([4.0, 3.0, 2.0, 1.0], 1.0),  # still falling
        ([4.0, 1.0, 5.0, math.nan], 1e-3),
    ],
)
def test_best_factor_is_a_tenth_of_the_one_with_the_lowest_loss(losses, factor):
    assert best_factor([1e-3, 1e-2, 0.1, 1.0], losses) == pytest.approx(factor)


def finding(code="learning-rate-too-high", **numbers):
    return Finding(
        code=code, severity="error", cause="c", counter_check="k", remedies=("learning_rate",),
        numbers=numbers,
    )  # fmt: skip


FACTS = RunFacts(optimizers=(OptimizerFacts(kind="Adam", lr=0.1),), steps=2000)


def test_candidates_go_the_way_that_the_finding_points():
    high = LearningRate.candidates(finding(), FACTS)
    low = LearningRate.candidates(finding("learning-rate-too-low"), FACTS)
    stuck = finding("stagnated-training", because="learning-rate-too-low")

    assert high[0].factor == 0.1
    assert all(each.factor < 1 for each in high)
    assert all(each.factor > 1 for each in low)
    assert LearningRate.candidates(stuck, FACTS) == low
    assert WarmUp.candidates(finding(), FACTS) == [WarmUp(100)]
    assert WarmUp.candidates(stuck, FACTS) == Cosine.candidates(stuck, FACTS) == []
    assert Cosine.candidates(finding(), FACTS) == [Cosine(2000)]
    assert FoundRate.candidates(finding(), FACTS) == [FoundRate(100)]


def test_a_schedule_of_the_script_s_has_the_factor_act_at_each_step():
    scheduled = RunFacts(optimizers=FACTS.optimizers, steps=2000, scheduler=True)

    assert all(each.each_step for each in LearningRate.candidates(finding(), scheduled))


def test_rates_that_would_fight_are_refused():
    for label in ("learning_rate(finder=100)", "learning_rate(factor=0.5)"):
        with pytest.raises(TreatmentError, match="conflict"):
            treatment_from(f"learning_rate(factor=0.1) + {label}")
    for label in ("warm_up=5", "cosine=9", "plateau=9"):
        treatment_from(f"learning_rate(factor=0.1) + learning_rate({label})")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: LearningRate(0.0), "'factor' must be a finite number above 0"),
        (lambda: WarmUp(0), "'warm_up' must be 1 or more steps"),
        (lambda: Cosine(0), "'cosine' must be 1 or more steps"),
        (lambda: Plateau(0), "'plateau' must be 1 or more steps"),
        (lambda: FoundRate(3), "'finder' must be 10 or more steps"),
        (lambda: WarmUp(3).apply(torch.nn.RNN(1, 1)), "pass it"),
    ],
)
def test_impossible_numbers_are_refused_with_the_reason(make, said):
    with pytest.raises(TreatmentError, match=said):
        make()


@pytest.mark.parametrize(("best", "first"), [(100.0, 100.0), (20.0, 10.0)])
def test_rate_that_is_far_too_low_is_raised_as_far_as_was_looked(best, first):
    low = Finding(
        code="learning-rate-too-low", severity="warning", cause="", counter_check="",
        numbers={"best_scale": best}, remedies=("learning_rate",),
    )  # fmt: skip
    facts = RunFacts(optimizers=(OptimizerFacts(kind="Adam", lr=1e-5),))

    assert LearningRate.candidates(low, facts)[0].factor == first
