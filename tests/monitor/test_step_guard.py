"""A blocked step is one that the user has left out; all other steps are as ever."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import optimizer as optimizers
from torch.optim.lr_scheduler import StepLR

from gradreach.errors import NonFiniteGradientError
from gradreach.monitor.guard import Guard
from gradreach.monitor.step_guard import StepGuard

BAD_STEPS = {3, 4, 7}


@contextmanager
def guarding(model: nn.Module, **options: Any) -> Iterator[StepGuard]:
    guard = Guard(on_fault=lambda: None)
    steps = StepGuard(model, guard, **options)
    steps.start()
    try:
        yield steps
    finally:
        steps.stop()
    assert guard.fault is None, guard.fault
    assert not optimizers._global_optimizer_pre_hooks
    assert not optimizers._global_optimizer_post_hooks


class Sam(torch.optim.SGD):
    """Sharpness-aware: moves the weights before it calls the closure."""

    def step(self, closure: Any = None) -> Any:
        own = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        with torch.no_grad():
            moved = [(p, 0.05 * p.grad) for p in own]
            for p, change in moved:
                p.add_(change)
        with torch.enable_grad():
            loss = closure()
        with torch.no_grad():
            for p, change in moved:
                p.sub_(change)
        super().step()
        return loss


BUILD: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw foreach": lambda p: torch.optim.AdamW(p, lr=0.01, foreach=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
    "fused": lambda p: torch.optim.Adam(p, lr=0.01, fused=True),
    "lbfgs": lambda p: torch.optim.LBFGS(p, lr=0.5, max_iter=4, line_search_fn="strong_wolfe"),
    "sam": lambda p: Sam(p, lr=0.1),
}


def trained(
    kind: str, *, closure: bool, skip: bool, scheduler: bool = False, late: bool = False
) -> list[Any]:
    """Train with some poisoned steps, left out by the user where ``skip``."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    optimizer = BUILD[kind](model.parameters())
    rates = StepLR(optimizer, 3, 0.5) if scheduler and not late else None
    told: list[Any] = []

    def run() -> list[Any]:
        nonlocal rates
        if scheduler and rates is None:
            rates = StepLR(optimizer, 3, 0.5)
        for step in range(10):
            x = torch.randn(5, 3)
            scale = torch.nan if step in BAD_STEPS else 1.0

            def loss(x: Tensor = x, scale: float = scale) -> Any:
                optimizer.zero_grad()
                value = scale * (model(x) - 1).square().mean()
                value.backward()
                return value

            if closure:
                if kind == "sam":
                    loss()
                # Whoever leaves a step out has seen its gradient first: the closure has run once.
                if skip and step in BAD_STEPS:
                    told.append(loss().detach())
                else:
                    told.append(optimizer.step(loss).detach())
            else:
                loss()
                if not (skip and step in BAD_STEPS):
                    optimizer.step()
            if rates is not None:
                rates.step()
        moments = [each for own in optimizer.state.values() for each in own.values()]
        return [*model.parameters(), *moments, optimizer.param_groups[0]["lr"], *told]

    if skip:
        return run()
    with guarding(model) as steps:
        left = run()
    assert steps.blocked == len(BAD_STEPS)
    return left


def same(a: Any, b: Any) -> bool:
    if torch.is_tensor(a):
        return torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0))
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@pytest.mark.parametrize("kind", [kind for kind in BUILD if kind not in ("lbfgs", "sam")])
def test_blocked_step_is_a_step_left_out(kind: str) -> None:
    assert same(trained(kind, closure=False, skip=False), trained(kind, closure=False, skip=True))


@pytest.mark.parametrize("kind", BUILD)
def test_blocked_step_with_a_closure_is_a_step_left_out(kind: str) -> None:
    assert same(trained(kind, closure=True, skip=False), trained(kind, closure=True, skip=True))


@pytest.mark.parametrize("kind", ["lbfgs", "sgd"])
def test_class_whose_step_was_wrapped_later_is_known(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = torch.zeros(1, requires_grad=True)
    optimizer = type(BUILD[kind]([weight]))
    # What the first torch.compile of a process does to LBFGS, for good.
    monkeypatch.setattr(optimizer, "step", torch.compiler.disable(optimizer.step))

    assert same(trained(kind, closure=True, skip=False), trained(kind, closure=True, skip=True))


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
@pytest.mark.parametrize("late", [False, True], ids=["made before", "made after"])
def test_scheduler_s_own_wrapper_hides_no_step(late: bool) -> None:
    left = [
        trained("adam", closure=False, skip=skip, scheduler=True, late=late)
        for skip in (False, True)
    ]

    assert same(*left)


def one_weight(kind: Any = torch.optim.SGD, **options: Any) -> tuple[nn.Module, Any, Tensor]:
    model = nn.Linear(1, 1, bias=False)
    return model, kind(model.parameters(), lr=0.5, **options), model.weight


def poison(weight: Tensor, value: float = torch.nan) -> None:
    weight.grad = torch.full_like(weight, value)


def test_very_first_step_of_a_new_class_is_blocked() -> None:
    class New(torch.optim.Optimizer):
        def __init__(self, params: Any, lr: float) -> None:
            super().__init__(params, {"lr": lr})

        def step(self, closure: Any = None) -> Any:
            for group in self.param_groups:
                for p in group["params"]:
                    p.data.add_(p.grad, alpha=-group["lr"])

    model, optimizer, weight = one_weight(New)
    before = weight.item()

    with guarding(model) as steps:
        poison(weight)
        optimizer.step()

    assert (weight.item(), steps.blocked) == (before, 1)


def test_limit_raises_into_the_user_s_call_with_the_place() -> None:
    model, optimizer, weight = one_weight()
    before = weight.item()

    with guarding(model, limit=2) as steps:
        poison(weight)
        optimizer.step()
        optimizer.step()
        with pytest.raises(
            NonFiniteGradientError,
            match=r"SGD.step\(\): the gradient is not finite, after 2 steps were blocked for that: "
            r"NaN or infinity in the gradient of weight only",
        ):
            optimizer.step()
        assert weight.item() == before
        poison(weight, 1.0)
        optimizer.step()  # whoever catches it may go on

    assert weight.item() == before - 0.5
    assert steps.blocked == 2


def test_optimizer_s_own_hooks_run_before_and_not_after_a_blocked_step() -> None:
    model, optimizer, weight = one_weight()
    seen: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))

    with guarding(model):
        for value in (torch.inf, 1.0):
            poison(weight, value)
            optimizer.step()

    assert seen == ["before", "before", "after"]
    optimizer.step()
    assert seen[-1] == "after"


def test_gradient_that_the_user_s_own_hook_mends_is_used() -> None:
    model, optimizer, weight = one_weight()
    before = weight.item()

    def mend(*_: Any) -> None:
        weight.grad = torch.ones_like(weight)

    optimizer.register_step_pre_hook(mend)

    with guarding(model) as steps:
        poison(weight)
        optimizer.step()

    assert (weight.item(), steps.blocked) == (before - 0.5, 0)


def test_only_the_optimizer_with_the_bad_gradient_is_blocked() -> None:
    good, stepping, sound = one_weight()
    bad, waiting, sick = one_weight()
    before = sound.item(), sick.item()

    with guarding(nn.ModuleList([good, bad])) as steps:
        poison(sound, 1.0)
        poison(sick)
        stepping.step()
        waiting.step()

    assert (sound.item(), sick.item()) == (before[0] - 0.5, before[1])
    assert steps.place is not None
    assert steps.place.parameters == ("1.weight",)


def test_optimizer_of_another_model_is_let_through() -> None:
    model, optimizer, weight = one_weight()

    with guarding(model, relevant=lambda each: each is not optimizer) as steps:
        poison(weight)
        optimizer.step()

    assert weight.isnan().all() and steps.blocked == 0


@pytest.mark.parametrize("fused", [False, True])
def test_step_that_a_scaler_skips_is_its_own_affair(fused: bool) -> None:
    def run() -> list[Tensor]:
        torch.manual_seed(0)
        model = nn.Linear(2, 1)
        optimizer = torch.optim.Adam(model.parameters(), fused=fused)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        for step in range(6):
            optimizer.zero_grad()
            x = torch.randn(3, 2) * (torch.inf if step == 2 else 1.0)
            scaler.scale(model(x).sum()).backward()
            scaler.step(optimizer)
            scaler.update()
        return [*model.parameters(), torch.tensor(scaler.get_scale())]

    alone = run()
    with guarding(nn.Linear(1, 1)) as steps:
        watched = run()

    assert all(map(torch.equal, alone, watched))
    assert steps.blocked == 0


def test_subclass_that_calls_its_parent_s_step_is_blocked_once() -> None:
    class Own(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    model, optimizer, weight = one_weight(Own)
    torch.optim.SGD(model.parameters())  # so that both classes have torch's wrapper

    with guarding(model) as steps:
        poison(weight)
        optimizer.step()

    assert steps.blocked == 1
    assert weight.isfinite().all()


def test_stop_leaves_every_class_as_it_was() -> None:
    model, optimizer, weight = one_weight()
    wrapper: Any = torch.optim.SGD.step
    cell = wrapper.__closure__[wrapper.__code__.co_freevars.index("func")]
    own = cell.cell_contents

    with guarding(model):
        poison(weight, 0.0)
        optimizer.step()
        assert cell.cell_contents is not own
        assert torch.optim.SGD.step is wrapper
        assert "step" not in vars(optimizer)
        copied = copy.deepcopy(optimizer)
        loaded = pickle.loads(pickle.dumps(optimizer))

    assert cell.cell_contents is own
    poison(weight)
    optimizer.step()
    assert weight.isnan().all()
    assert copied.state_dict()["param_groups"] == loaded.state_dict()["param_groups"]


def test_failure_of_ours_lets_the_step_be_made() -> None:
    model, optimizer, weight = one_weight()
    guard = Guard(on_fault=lambda: None)
    steps = StepGuard(model, guard, relevant=lambda each: bool(1 / 0))
    before = weight.item()
    steps.start()
    try:
        poison(weight, 1.0)
        optimizer.step()
    finally:
        steps.stop()

    assert guard.fault is not None and "ZeroDivisionError" in guard.fault
    assert weight.item() == before - 0.5


def test_place_that_cannot_be_found_blocks_all_the_same() -> None:
    model, optimizer, weight = one_weight()
    guard = Guard(on_fault=lambda: None)
    steps = StepGuard(model, guard, found=lambda: [1 / 0])  # type: ignore[list-item]
    steps.start()
    try:
        poison(weight)
        optimizer.step()
    finally:
        steps.stop()

    assert steps.blocked == 1 and steps.place is None
    assert weight.isfinite().all()


def test_user_s_own_error_in_the_closure_passes_through() -> None:
    model, optimizer, weight = one_weight()

    def closure() -> Any:
        raise KeyError("the user's")

    with guarding(model) as steps:
        with pytest.raises(KeyError, match="the user's"):
            optimizer.step(closure)
        poison(weight, 1.0)
        optimizer.step()

    assert steps.blocked == 0


def test_optimizer_stepped_inside_another_s_closure_is_looked_at_too() -> None:
    outer, outer_steps, _ = one_weight()
    inner, inner_steps, sick = one_weight()

    def closure() -> float:
        poison(sick)
        inner_steps.step()
        poison(outer.weight, 1.0)
        return 0.0

    with guarding(nn.ModuleList([outer, inner])) as steps:
        outer_steps.step(closure)

    assert steps.blocked == 1
    assert sick.isfinite().all()
