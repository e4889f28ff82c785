"""What a GradScaler does is seen, and done as ever."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gradreach.monitor.guard import Guard
from gradreach.monitor.scaler_calls import METHODS, ScalerCalls

OWN = {name: getattr(torch.amp.GradScaler, name) for name in METHODS}


@contextmanager
def seeing(**options: Any) -> Iterator[ScalerCalls]:
    guard = Guard(on_fault=lambda: None)
    calls = ScalerCalls(guard, **options)
    calls.start()
    try:
        yield calls
    finally:
        calls.stop()
    assert guard.fault is None
    assert {name: getattr(torch.amp.GradScaler, name) for name in METHODS} == OWN


def setup(scale: float = 8.0) -> tuple[nn.Module, torch.optim.Optimizer, torch.amp.GradScaler]:
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return model, optimizer, torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=2)


def test_scaler_made_before_is_seen_as_one_made_after() -> None:
    model, optimizer, before = setup()

    with seeing() as calls:
        after = torch.amp.GradScaler("cpu", init_scale=4.0)
        for scaler, factor in ((before, 8.0), (after, 4.0)):
            loss = scaler.scale(model(torch.ones(1, 3)).sum())
            assert calls.factor(loss) == factor == calls.left(optimizer)
            loss.backward()
            scaler.step(optimizer)
            scaler.update()
            assert calls.left(optimizer) == 1.0
            optimizer.zero_grad()


def test_factor_is_of_the_pass_not_of_the_last_update() -> None:
    model, optimizer, scaler = setup()

    with seeing() as calls:
        loss = scaler.scale(model(torch.ones(1, 3)).sum())
        loss.backward(retain_graph=True)
        scaler.step(optimizer)
        scaler.update(2.0)

        assert calls.factor(loss) == 8.0
        assert calls.factor(scaler.scale(model(torch.ones(1, 3)).sum())) == 2.0


def test_factor_is_found_behind_what_became_of_the_scaled_loss() -> None:
    model, _, scaler = setup()

    with seeing() as calls:
        losses = [model(torch.ones(1, 3)).sum() for _ in range(2)]
        first, second = scaler.scale(losses)
        assert calls.factor((first + second) / 4) == 8.0
        assert calls.factor([first, second]) == 8.0
        assert calls.factor(losses[0]) == 1.0
        assert calls.factor(torch.ones(1, requires_grad=True)) == 1.0


def test_gradient_is_scaled_until_its_optimizer_is_unscaled() -> None:
    left, right = nn.Linear(2, 1), nn.Linear(2, 1)
    first, second = (torch.optim.SGD(m.parameters(), lr=0.1) for m in (left, right))
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)

    def gradients(model: nn.Module) -> list[Tensor]:
        return [p.grad for p in model.parameters() if p.grad is not None]

    with seeing() as calls:
        scaler.scale((left(torch.ones(1, 2)) + right(torch.ones(1, 2))).sum()).backward()
        scaler.unscale_(first)
        assert (calls.left(first), calls.left(second)) == (1.0, 8.0)
        assert not calls.scaled(gradients(left))
        assert calls.scaled(gradients(right))
        assert calls.scaled(gradients(left) + gradients(right))


def test_gradient_is_whole_when_the_optimizer_gets_it() -> None:
    model, optimizer, scaler = setup()
    seen: list[float] = []

    with seeing() as calls:
        optimizer.register_step_pre_hook(lambda *_: seen.append(calls.left(optimizer)))
        scaler.scale(model(torch.ones(1, 3)).sum()).backward()
        scaler.step(optimizer)
        scaler.update()

    assert seen == [1.0]


def test_fused_optimizer_gets_a_scaled_gradient_and_its_skip_is_seen() -> None:
    model, _, scaler = setup()
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    seen: list[float] = []

    with seeing() as calls:
        optimizer.register_step_pre_hook(lambda *_: seen.append(calls.left(optimizer)))
        for value in (1.0, float("inf")):
            optimizer.zero_grad()
            scaler.scale(model(torch.full((1, 3), value)).sum()).backward()
            scaler.step(optimizer)
            scaler.update()

        assert calls.skipped == 1
    assert seen == [8.0, 8.0]


def test_skipped_step_is_told_once_with_its_optimizer() -> None:
    model, optimizer, scaler = setup()
    told: list[object] = []

    with seeing(on_skip=told.append) as calls:
        for value in (1.0, float("nan"), 1.0):
            optimizer.zero_grad()
            scaler.scale(model(torch.full((1, 3), value)).sum()).backward()
            scaler.step(optimizer)
            scaler.update()

    assert calls.skipped == 1
    assert told == [optimizer]


def test_subclass_that_calls_its_parent_is_counted_once() -> None:
    class Own(torch.amp.GradScaler):
        def step(self, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> float | None:
            return super().step(optimizer, *args, **kwargs)

    model, optimizer, _ = setup()
    own = Own.step

    with seeing() as calls:
        scaler = Own("cpu")
        scaler.scale(model(torch.full((1, 3), torch.inf)).sum()).backward()
        scaler.step(optimizer)

        assert calls.skipped == 1
    assert Own.step is own


def test_disabled_scaler_scales_nothing() -> None:
    model, optimizer, _ = setup()
    scaler = torch.amp.GradScaler("cpu", enabled=False)

    with seeing() as calls:
        loss = scaler.scale(model(torch.full((1, 3), torch.inf)).sum())
        loss.backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()

        assert (calls.factor(loss), calls.left(optimizer), calls.skipped) == (1.0, 1.0, 0)


def test_training_is_the_same_to_the_bit() -> None:
    def trained() -> list[Tensor]:
        torch.manual_seed(0)
        model, optimizer, scaler = setup(2.0**14)
        for k in range(20):
            optimizer.zero_grad()
            x = torch.randn(4, 3) * (float("inf") if k == 7 else 1.0)
            scaler.scale(model(x).square().mean()).backward()
            if k % 2:
                scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
        return [*(p.detach() for p in model.parameters()), torch.tensor(scaler.get_scale())]

    alone = trained()
    with seeing() as calls:
        watched = trained()

    assert all(torch.equal(a, b) for a, b in zip(alone, watched, strict=True))
    assert calls.skipped == 1


def test_scaler_copies_and_saves_as_ever() -> None:
    _, _, scaler = setup()

    with seeing():
        copied = copy.deepcopy(scaler)
        loaded = pickle.loads(pickle.dumps(scaler))
        refused = pytest.raises(RuntimeError, match="already been called")
        model, optimizer, scaler = setup()
        scaler.scale(model(torch.ones(1, 3)).sum()).backward()
        scaler.unscale_(optimizer)
        with refused:
            scaler.unscale_(optimizer)  # torch's own refusal still comes

    assert copied.state_dict() == loaded.state_dict() == setup()[2].state_dict()
    assert "gradreach" not in repr(pickle.dumps(copied))


def test_stopped_calls_see_nothing_and_keep_nothing() -> None:
    model, optimizer, scaler = setup()
    calls = ScalerCalls(Guard(on_fault=lambda: None))
    calls.start()
    step = torch.amp.GradScaler.step
    calls.stop()

    scaler.scale(model(torch.full((1, 3), torch.inf)).sum()).backward()
    step(scaler, optimizer)  # somebody kept the wrapper

    assert calls.skipped == 0
    assert calls.left(optimizer) == 1.0
