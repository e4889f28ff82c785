"""A tape records what a pass computed, and says so where it cannot."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gradreach.kernels import native
from gradreach.monitor import tape as tape_module
from gradreach.monitor.guard import Guard
from gradreach.monitor.tape import Tape, modes
from gradreach.monitor.tape_replay import replayed_loss
from gradreach.monitor.tape_values import NotReplayableError

CORE = native.run


@contextmanager
def taping() -> Iterator[Tape]:
    guard = Guard(on_fault=lambda: None)
    tape = Tape(guard)
    tape.begin()
    try:
        yield tape
    finally:
        tape.stop()
    assert guard.fault is None
    assert not any(isinstance(mode, Tape) for mode in modes())
    assert native.run is CORE


def recorded(loss: Callable[[], Tensor]) -> Tape:
    with taping() as tape:
        tape.end([loss()])
    return tape


def test_calls_are_recorded_at_the_level_they_are_made() -> None:
    lstm = nn.LSTM(3, 4)
    x = torch.randn(5, 2, 3)

    tape = recorded(lambda: lstm(x)[0].sum())

    assert [call.function.__name__ for call in tape.calls] == ["zeros", "zeros", "lstm", "sum"]
    assert len(tape.values.leaves) == 4
    assert tape.values.bytes == x.numel() * 4


def test_recording_keeps_no_result_of_the_pass_alive() -> None:
    weight = torch.ones(3, requires_grad=True)

    with taping() as tape:
        hidden = weight.exp()
        loss = hidden.sum()
        node = weakref.ref(hidden)
        tape.end([loss])
        del hidden, loss
        gc.collect()

    assert node() is None
    assert tape.reason == ""


def test_number_told_to_python_is_recorded_unless_it_is_a_float() -> None:
    weight = torch.tensor([2.0], requires_grad=True)

    def loss() -> Tensor:
        own = weight.detach()
        assert float(own) == own.item() == 2.0
        assert bool(own > 1) and int(own) == 2 and (own > 0).tolist()
        return weight.sum()

    tape = recorded(loss)

    assert [call.read for call in tape.calls if call.read is not None] == [True, 2, [True]]


def own_generator(w: Tensor) -> Tensor:
    return (w * torch.rand(3, generator=torch.Generator().manual_seed(0))).sum()


def own_function(w: Tensor) -> Tensor:
    return F.triplet_margin_with_distance_loss(
        w[None], w[None], w[None], distance_function=lambda a, b: (a - b).abs().sum(-1)
    )


def other_data(w: Tensor) -> Tensor:
    h = w.exp()
    with torch.no_grad():
        own = torch.zeros(3)
        own.data = torch.ones(3)
    return (h * own).sum()


def transformed(w: Tensor) -> Tensor:
    return torch.func.vmap(lambda part: part.exp())(w).sum()


GIVEN = torch.ones(3)


def unseen_write(w: Tensor) -> Tensor:
    loss = (w * GIVEN).sum()
    with torch._C.DisableTorchFunction():
        GIVEN.add_(1)
    return loss


BASE = torch.ones(3)
BASE_VIEW = BASE[:2]


def written_through_a_view(w: Tensor) -> Tensor:
    loss = (w * BASE).sum()
    BASE_VIEW.add_(1)
    return loss + (w * BASE).sum()


REASONS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "generator": (own_generator, "from a generator of the user's own"),
    "function": (own_function, "function of the user's own is called"),
    "data": (other_data, "given other data in place"),
    "vmap": (transformed, "transformed by torch.func"),
    "unseen write": (unseen_write, "changed a tensor unseen"),
    "view": (written_through_a_view, "changed through a view"),
    "not a number": (lambda w: w.exp(), "not called on single numbers"),
}


@pytest.mark.parametrize(("loss", "reason"), REASONS.values(), ids=REASONS.keys())
def test_pass_that_cannot_be_run_again_is_declined_with_the_reason(
    loss: Callable[[Tensor], Tensor], reason: str
) -> None:
    weight = torch.ones(3, requires_grad=True)

    tape = recorded(lambda: loss(weight))

    assert reason in tape.reason
    assert tape.calls == []  # nothing is kept


def test_loss_from_elsewhere_is_declined() -> None:
    weight = torch.ones(3, requires_grad=True)
    before = weight.sum()

    tape = recorded(lambda: before)

    assert "not computed in the recorded pass" in tape.reason


def test_tape_that_grows_too_long_or_too_large_is_declined(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.ones(3, requires_grad=True)
    monkeypatch.setattr(tape_module, "MOST_CALLS", 3)
    long = recorded(lambda: weight.exp().exp().exp().sum())
    monkeypatch.setattr(tape_module, "MOST_CALLS", 100)
    monkeypatch.setattr(tape_module, "MOST_BYTES", 100)
    large = recorded(lambda: (weight * torch.from_numpy(np.ones((99, 3)))).sum())

    assert "too large to keep" in long.reason
    assert "too large to keep" in large.reason


def test_tape_does_not_begin_under_a_mode_of_somebody_else() -> None:
    class Theirs(TorchFunctionMode):
        pass

    with Theirs(), taping() as tape:
        assert len(modes()) == 1
    with torch.no_grad(), taping() as other:
        pass

    assert "mode of somebody else's" in tape.reason
    assert "no gradient is recorded" in other.reason


def test_compiled_model_is_left_alone() -> None:
    import torch._dynamo as dynamo

    dynamo.reset()
    compiled = torch.compile(lambda x: x + 1, backend="eager")
    compiled(torch.ones(1))
    try:
        with taping() as tape:
            assert modes() == []
        assert tape.reason == "torch.compile is in use"
    finally:
        dynamo.reset()


def test_mode_is_taken_off_from_below_one_that_came_later() -> None:
    class Theirs(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            return func(*args, **(kwargs or {}))

    weight = torch.ones(3, requires_grad=True)

    with taping() as tape:
        with Theirs() as theirs:
            tape.end([weight.sum()])
            assert modes() == [theirs]
        assert modes() == []
    assert tape.reason == ""


def test_default_device_works_before_and_during_a_tape() -> None:
    weight = torch.ones(3, requires_grad=True)

    with torch.device("cpu"), taping() as tape:
        loss = (weight * torch.ones(3)).sum()
        tape.end([loss])
        assert float(replayed_loss(tape, {id(weight): torch.zeros(3)})) == 0.0
    with taping():
        with torch.device("meta"):
            assert torch.zeros(1).is_meta
        assert not torch.zeros(1).is_meta
    assert modes() == []


def test_error_of_the_user_s_own_passes_through() -> None:
    weight = torch.ones(3, requires_grad=True)

    with taping() as tape:
        with pytest.raises(RuntimeError, match="shape"):
            weight.reshape(2, 2)
        tape.end([weight.sum()])

    assert tape.reason == ""


def test_failure_of_ours_declines_and_lets_the_pass_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.ones(3, requires_grad=True)

    def broken(*args: Any) -> Any:
        raise ValueError("broken on purpose")

    with taping() as tape:
        monkeypatch.setattr(tape.values, "bind", broken)
        loss = weight.exp().sum()
        tape.end([loss])

    assert "ValueError: broken on purpose" in tape.reason
    assert float(loss.detach()) == pytest.approx(3 * np.e)


def test_constant_that_changed_since_is_told() -> None:
    weight, x = torch.ones(3, requires_grad=True), torch.ones(3)
    tape = recorded(lambda: (weight * x).sum())

    x.copy_(torch.zeros(3))  # the next batch, into the same memory

    with pytest.raises(NotReplayableError, match="has changed since"):
        replayed_loss(tape, {})
