"""The loss along an update is probed without a trace in the run, or declined with a reason."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import optimizer as optimizers
from torch.utils.checkpoint import checkpoint

from gradreach.monitor.guard import Guard
from gradreach.monitor.line_probes import LineProbes
from gradreach.monitor.scaler_calls import ScalerCalls
from gradreach.monitor.tape import modes
from gradreach.records.line_probe import LineProbe

OWN = (Tensor.backward, torch.autograd.backward)
T, B, INPUT, H = 7, 3, 4, 8


def hooks() -> list[int]:
    module: Any = torch.nn.modules.module
    dicts = (module._global_forward_pre_hooks, optimizers._global_optimizer_pre_hooks,
             optimizers._global_optimizer_post_hooks)  # fmt: skip
    return [len(each) for each in dicts]


@contextmanager
def probing(**options: Any) -> Iterator[tuple[LineProbes, list[LineProbe]]]:
    guard, found = Guard(on_fault=lambda: None), []
    probes = LineProbes(guard, found.append, **options)
    try:
        yield probes, found
    finally:
        probes.stop()
    assert guard.fault is None
    assert (Tensor.backward, torch.autograd.backward) == OWN
    assert hooks() == [0, 0, 0]
    assert modes() == []


class Net(nn.Module):
    """A bit of all that could be disturbed: drawn numbers, statistics, writes, two cells."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, INPUT, max_norm=1.0)
        self.lstm, self.gru = nn.LSTM(INPUT, H, num_layers=2, dropout=0.2), nn.GRU(H, H)
        self.norm, self.drop, self.out = nn.BatchNorm1d(H), nn.Dropout(0.3), nn.Linear(H, 2)

    def forward(self, words: Tensor) -> Any:
        hidden = self.gru(self.lstm(self.table(words))[0])[0]
        hidden = 2 * self.norm(hidden.flatten(0, 1)).relu_()
        hidden[0] = 0.5
        return self.out(self.drop(hidden))


def trained(
    probes: LineProbes | None,
    build: Callable[[Any], torch.optim.Optimizer],
    autocast: bool,
    steps: int = 5,
) -> list[Tensor]:
    """Return all that is left of a training: weights, moments, statistics, random streams."""
    torch.manual_seed(1)
    model = Net()
    optimizer = build(model.parameters())
    for step in range(steps):
        if probes is not None:
            probes.arm(step)
        words = torch.randint(9, (T, B))
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            out = model(words)
        loss = (out.float() - torch.randn(2)).square().mean()
        loss.backward()
        optimizer.step()
    moments = [
        part for own in optimizer.state.values() for part in own.values() if torch.is_tensor(part)
    ]
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    left = (*model.state_dict().values(), *moments, *grads, torch.get_rng_state())
    return [part.detach().clone() for part in left]


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.5),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, foreach=False),
}


@pytest.mark.parametrize("autocast", [False, True], ids=["full", "bf16"])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_training_probed_at_every_step_is_the_same_to_the_bit(kind: str, autocast: bool) -> None:
    alone = trained(None, OPTIMIZERS[kind], autocast)

    with probing() as (probes, found):
        watched = trained(probes, OPTIMIZERS[kind], autocast)

    assert all(torch.equal(a, b) for a, b in zip(alone, watched, strict=True))
    assert [probe.step for probe in found] == [0, 1, 2, 3, 4]
    assert {probe.reason for probe in found} == {""}
    assert probes.guard.seconds > 0.0


def step_of(
    loss: Callable[[nn.Module], Tensor],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    probes: LineProbes,
) -> None:
    probes.arm(7)
    optimizer.zero_grad()
    loss(model).backward()
    optimizer.step()


def test_losses_are_those_of_a_model_with_these_weights() -> None:
    model = nn.Sequential(nn.Linear(INPUT, H), nn.Tanh(), nn.Linear(H, 1)).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    x, y = torch.randn(B, INPUT).double(), torch.randn(B, 1).double()
    twin, before = copy.deepcopy(model), [p.detach().clone() for p in model.parameters()]

    def loss(model: nn.Module) -> Tensor:
        value: Tensor = (model(x) - y).square().mean()
        return value

    with probing() as (probes, found):
        step_of(loss, model, optimizer, probes)

    (probe,) = found
    expected, slope = [], 0.0
    for scale in probe.scales:
        with torch.no_grad():
            for own, start, end in zip(twin.parameters(), before, model.parameters(), strict=True):
                moved = torch.add(start, end - start, alpha=float(scale))
                own.copy_(end if scale == 1.0 else moved)
        expected.append(float(loss(twin).detach()))
    for p, start in zip(model.parameters(), before, strict=True):
        assert p.grad is not None
        slope += float((p.grad * (p.detach() - start)).sum())
    assert probe.losses.tolist() == expected  # to the last bit
    assert probe.slope == pytest.approx(slope, rel=1e-12)
    assert probe.mismatch < 1e-4
    assert probe.step == 7


@pytest.mark.parametrize(
    ("rate", "lowest", "highest"), [(1e-5, 1e3, 1e6), (1e-3, 30, 1e4), (10.0, 0.0, 0.3)]
)
def test_best_scale_tells_a_rate_too_low_from_one_too_high(
    rate: float, lowest: float, highest: float
) -> None:
    model = nn.Linear(INPUT, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    x = torch.randn(T * B, INPUT)

    with probing() as (probes, found):
        step_of(lambda m: (m(x) - 0.5).square().mean(), model, optimizer, probes)

    assert lowest <= found[0].best_scale <= highest
    assert (found[0].change > 0) == (rate == 10.0)


def test_scaled_loss_is_probed_unscaled() -> None:
    model = nn.Linear(INPUT, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    x = torch.randn(B, INPUT)
    plain = float(model(x).square().mean().detach())
    scalers = ScalerCalls(Guard(on_fault=lambda: None))
    scalers.start()

    with probing(scalers=scalers) as (probes, found):
        probes.arm(0)
        scaler.scale(model(x).square().mean()).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1e-3)  # the gradient it compares with is not
        scaler.step(optimizer)
    scalers.stop()

    (probe,) = found
    assert probe.reason == ""
    assert probe.losses[0] == pytest.approx(plain, rel=1e-6)
    assert probe.mismatch < 0.01


def test_closure_is_probed() -> None:
    model = nn.Linear(INPUT, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x = torch.randn(B, INPUT)

    def closure() -> float:
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        return float(loss.detach())

    with probing() as (probes, found):
        probes.arm(0)
        optimizer.step(closure)

    assert [probe.reason for probe in found] == [""]
    assert found[0].change < 0


def test_step_of_other_weights_is_waited_through() -> None:
    model, other = nn.Linear(INPUT, 1), nn.Linear(INPUT, 1)
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.01) for m in (other, model)]

    with probing() as (probes, found):
        probes.arm(0)
        model(torch.randn(B, INPUT)).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()

    assert [probe.reason for probe in found] == [""]


def test_validation_before_the_step_is_not_taken_for_it() -> None:
    model = nn.Linear(INPUT, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    with probing() as (probes, found):
        probes.arm(0)
        with torch.no_grad():
            model(torch.randn(B, INPUT))
        model(torch.randn(B, INPUT))  # and one without no_grad
        model(torch.randn(B, INPUT)).square().mean().backward()
        optimizer.step()

    assert [probe.reason for probe in found] == [""]


class Doubled(torch.autograd.Function):
    """Its forward calls torch, without gradients: only differences can tell the slope."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return 2 * x.square()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 4 * grads[0] * x


class Checkpointed(nn.Module):
    """Recomputes its first layers in the backward pass, and ends in a function of its own."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(INPUT, H), nn.Tanh())
        self.last, self.reentrant = nn.Linear(H, 1), reentrant

    def forward(self, x: Tensor) -> Any:
        hidden = checkpoint(self.first, x, use_reentrant=self.reentrant)
        return Doubled.apply(self.last(hidden))


@pytest.mark.parametrize("reentrant", [True, False])
def test_custom_functions_and_checkpointing_are_probed(reentrant: bool) -> None:
    model = Checkpointed(reentrant)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x = torch.randn(B, INPUT, requires_grad=True)

    with probing() as (probes, found):
        step_of(lambda m: m(x).mean(), model, optimizer, probes)

    assert [probe.reason for probe in found] == [""]
    assert found[0].mismatch < 0.01


def test_rough_loss_of_a_rate_far_too_high_is_probed_all_the_same() -> None:
    model = nn.LSTM(INPUT, 32)
    optimizer = torch.optim.Adam(model.parameters(), lr=3.0)

    with probing() as (probes, found):
        for step in range(12):
            probes.arm(step)
            optimizer.zero_grad()
            (model(torch.randn(20, B, INPUT))[0][-1] - 0.1).square().mean().backward()
            optimizer.step()

    assert {probe.reason for probe in found} == {""}
    assert max(probe.mismatch for probe in found) < 1e-3  # differences would see chaos, not slope


def test_generator_of_two_players_is_probed_among_the_critic_s_steps() -> None:
    generator, critic = nn.Linear(INPUT, INPUT), nn.Linear(INPUT, 1)
    steps = [torch.optim.SGD(model.parameters(), lr=0.01) for model in (generator, critic)]
    x = torch.randn(B, INPUT)

    with probing(told=True) as (probes, found):
        probes.arm(0)
        for _ in range(2):
            steps[1].zero_grad()
            (critic(x) - critic(generator(x).detach())).mean().backward()
            steps[1].step()  # nobody tells of it
            steps[0].zero_grad()
            critic(generator(x)).mean().backward()
            probes.before_step(steps[0])
            steps[0].step()
            probes.after_step(steps[0])

    assert [probe.reason for probe in found] == [""]


def test_sparse_gradients_are_probed_or_declined_and_harm_nothing() -> None:
    model = nn.Sequential(nn.Embedding(5, INPUT, sparse=True), nn.Linear(INPUT, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    with probing() as (probes, found):
        probes.arm(0)
        model(torch.tensor([1, 2, 2])).square().mean().backward()
        optimizer.step()

    assert len(found) == 1


# ---- what cannot be probed


class Exp(torch.autograd.Function):
    """Computes where no function mode sees it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        result = torch.from_numpy(np.exp(x.detach().numpy()))
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (result,) = ctx.saved_tensors
        return grads[0] * result


class Straight(torch.autograd.Function):
    """Has another gradient than its forward (straight-through)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return (10 * x).round() / 10 + 0.3 * x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return 3 * grads[0]


def seeded(model: nn.Module, x: Tensor) -> Tensor:
    out = model(x)
    torch.manual_seed(3)  # seen by no mode
    value: Tensor = (torch.rand(1) * out).sum()
    return value


LOSSES: dict[str, tuple[Callable[[nn.Module, Tensor], Tensor], str]] = {
    "computed elsewhere": (lambda m, x: Exp.apply(m(x)).sum(), "not that of the loss when run"),
    "another gradient": (lambda m, x: Straight.apply(m(x)).sum(), "not that of the loss when run"),
    "a hook on the way": (lambda m, x: hooked(m(x)), "its gradient is changed on the way"),
    "seeds itself": (seeded, "run again, the pass gives another loss"),
    "constant along it": (lambda m, x: 0 * m(x).sum(), "the step changed no weight"),
    "not finite": (lambda m, x: m(x).sum() / 0, "is not finite"),
    "a generator": (
        lambda m, x: m(x * torch.rand(1, generator=torch.Generator())).sum(),
        "a generator of the user's own",
    ),
}


def hooked(out: Tensor) -> Tensor:
    out.register_hook(lambda gradient: 5 * gradient)
    return out.sum()


@pytest.mark.parametrize(("loss", "reason"), LOSSES.values(), ids=LOSSES.keys())
def test_step_that_cannot_be_probed_is_declined_with_the_reason(
    loss: Callable[[nn.Module, Tensor], Tensor], reason: str
) -> None:
    model = nn.Linear(INPUT, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x = torch.randn(B, INPUT)
    if loss is seeded:  # the generator's input must be there when the model is called
        torch.manual_seed(5)

    with probing() as (probes, found):
        step_of(lambda m: loss(m, inner(m, x)), model, optimizer, probes)

    assert len(found) == 1
    assert reason in found[0].reason
    assert len(found[0].scales) == len(found[0].losses) == 0


def inner(model: nn.Module, x: Tensor) -> Tensor:
    """Begin the tape before what the loss does to its input."""
    model(x)
    return x


def test_accumulated_gradients_are_declined() -> None:
    model = nn.Linear(INPUT, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    with probing() as (probes, found):
        for before in (0, 1):  # the probe is armed before the first pass, or before the second
            optimizer.zero_grad()
            for number in range(2):
                if number == before:
                    probes.arm(0)
                model(torch.randn(B, INPUT)).square().mean().backward()
            optimizer.step()

    assert ["accumulated" in probe.reason for probe in found] == [True, True]


def test_gradients_zeroed_between_forward_and_backward_are_probed() -> None:
    model = nn.Linear(INPUT, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    model(torch.randn(B, INPUT)).sum().backward()

    with probing() as (probes, found):
        probes.arm(0)
        loss = model(torch.randn(B, INPUT)).square().mean()
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        optimizer.step()

    assert [probe.reason for probe in found] == [""]


def test_batch_overwritten_before_the_step_is_declined() -> None:
    model = nn.Linear(INPUT, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x = torch.randn(B, INPUT)

    with probing() as (probes, found):
        probes.arm(0)
        model(x).square().mean().backward()
        x.normal_()
        optimizer.step()

    assert "has changed since" in found[0].reason


def test_backward_with_a_gradient_to_start_from_is_declined() -> None:
    model = nn.Linear(INPUT, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    with probing() as (probes, found):
        probes.arm(0)
        model(torch.randn(B, INPUT)).sum().backward(torch.tensor(2.0))
        optimizer.step()

    assert "a gradient to start from" in found[0].reason


def test_compiled_model_is_declined_before_anything_is_set() -> None:
    import torch._dynamo as dynamo

    dynamo.reset()
    compiled = torch.compile(nn.Linear(INPUT, 1), backend="eager")
    compiled(torch.randn(B, INPUT)).sum().backward()
    try:
        with probing() as (probes, found):
            probes.arm(3)
            assert hooks() == [0, 0, 0]
        assert (found[0].reason, found[0].step) == ("torch.compile is in use", 3)
    finally:
        dynamo.reset()


def test_stop_in_the_middle_of_a_pass_leaves_nothing() -> None:
    model = nn.Linear(INPUT, 1)

    with probing() as (probes, found):
        probes.arm(0)
        loss = model(torch.randn(B, INPUT)).sum()
        probes.stop()
        loss.backward()

    assert found == []


def test_failure_of_ours_in_the_search_is_told_and_harmless(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from gradreach.monitor import line_probes

    def broken(*args: Any) -> Any:
        raise ValueError("broken on purpose")

    monkeypatch.setattr(line_probes, "replayed_loss", broken)
    model = nn.Linear(INPUT, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    with probing() as (probes, found):
        step_of(lambda m: m(torch.randn(B, INPUT)).sum(), model, optimizer, probes)

    assert "ValueError: broken on purpose" in found[0].reason
