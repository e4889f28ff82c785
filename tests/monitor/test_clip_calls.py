"""Clipping is seen by whatever name it is called, and told apart by when it is called."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad, clip_grad_norm_, clip_grad_value_

from gradreach.monitor.clip_calls import GROUPS, SCALES, ClipCalls, ClipRow
from gradreach.monitor.guard import Guard
from gradreach.monitor.scaler_calls import ScalerCalls

OWN = {name: getattr(clip_grad, name) for name in (SCALES, GROUPS)}


@contextmanager
def seeing(**options: Any) -> Iterator[ClipCalls]:
    guard = Guard(on_fault=lambda: None)
    clips = ClipCalls(guard, **options)
    clips.start()
    try:
        yield clips
    finally:
        clips.stop()
    assert guard.fault is None
    assert {name: getattr(clip_grad, name) for name in OWN} == OWN


def weights(*factors: float) -> list[Tensor]:
    """Return parameters with a gradient of two entries each, all of them the factor."""
    own = [torch.zeros(2, requires_grad=True) for _ in factors]
    torch.stack([f * w.sum() for f, w in zip(factors, own, strict=True)]).sum().backward()
    return own


CALLS: dict[str, Callable[[list[Tensor]], Any]] = {
    "list": lambda own: clip_grad_norm_(own, 1.0),
    "generator": lambda own: clip_grad_norm_((w for w in own), max_norm=1.0),
    "by its path": lambda own: torch.nn.utils.clip_grad_norm_(own, 1.0),
    "one by one": lambda own: clip_grad_norm_(own, 1.0, foreach=False),
    "foreach": lambda own: clip_grad_norm_(own, 1.0, foreach=True),
    "strict": lambda own: clip_grad_norm_(own, 1.0, error_if_nonfinite=True),
    "with its norm": lambda own: torch.nn.utils.clip_grads_with_norm_(
        own, 1.0, torch.nn.utils.get_total_norm([w.grad for w in own if w.grad is not None])
    ),
    "without gradients": lambda own: clip_grad_norm_([*own, torch.zeros(1)], 1.0),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_norm_clip_is_seen_with_its_threshold_and_norm(call: Callable[[list[Tensor]], Any]) -> None:
    own, twin = weights(3.0, 4.0), weights(3.0, 4.0)
    call(twin)

    with seeing() as clips:
        clips.passed()
        call(own)
        row = clips.taken()

    assert row == ClipRow(1, 1.0, pytest.approx(50**0.5), 1, "norm")
    assert all(torch.equal(w.grad, t.grad) for w, t in zip(own, twin, strict=True))  # type: ignore[arg-type]


def test_call_for_the_norm_alone_is_no_clip() -> None:
    with seeing() as clips:
        clip_grad_norm_(weights(3.0, 4.0), float("inf"))

        assert clips.taken().calls == 0


def test_single_tensor_is_seen() -> None:
    (own,) = weights(3.0)

    with seeing() as clips:
        clips.passed()
        clip_grad_norm_(own, 1.0, norm_type=float("inf"))

        assert clips.taken() == ClipRow(1, 1.0, 3.0, 1, "norm")


@pytest.mark.parametrize("foreach", [None, True, False])
def test_value_clip_is_seen_with_the_largest_entry_of_before(foreach: bool | None) -> None:
    own = weights(3.0, -4.0)

    with seeing() as clips:
        clips.passed()
        clip_grad_value_(own, 0.5, foreach=foreach)

        assert clips.taken() == ClipRow(1, 0.5, 4.0, 1, "value")
    assert own[1].grad is not None
    assert own[1].grad.tolist() == [-0.5, -0.5]


def test_deprecated_name_is_seen() -> None:
    own = weights(3.0)

    with seeing() as clips, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clips.passed()
        torch.nn.utils.clip_grad_norm(own, 1.0)

        assert clips.taken().calls == 1


def test_clip_before_backward_is_told_with_stale_and_without_any_gradient() -> None:
    own = weights(3.0)
    bare = [torch.zeros(2, requires_grad=True)]

    with seeing() as clips:
        clip_grad_norm_(own, 1.0)  # the gradient of the step before
        clips.passed()
        stale = clips.taken()
        clip_grad_norm_(bare, 1.0)
        clips.passed()
        none = clips.taken()

    assert (stale.order, none.order, none.seen) == (2, 2, 0.0)


def test_clip_between_two_optimizers_of_one_pass_is_after_backward() -> None:
    own = weights(3.0, 4.0)

    with seeing() as clips:
        clips.passed()
        clips.taken()  # the first optimizer's step
        clip_grad_norm_(own[1:], 1.0)

        assert clips.taken().order == 1


def test_clip_after_each_of_several_passes_is_after_backward() -> None:
    own = weights(3.0)

    with seeing() as clips:
        for _ in range(3):
            clips.passed()
            clip_grad_norm_(own, 1.0)

        assert clips.taken() == ClipRow(3, 1.0, pytest.approx(1.0, rel=3e-6), 1, "norm")
        assert clips.taken() == ClipRow()


@pytest.mark.parametrize("unscale", [True, False])
def test_clip_before_unscale_is_told(unscale: bool) -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    scalers = ScalerCalls(Guard(on_fault=lambda: None))
    scalers.start()

    with seeing(scaled=scalers.scaled) as clips:
        scaler.scale(model(torch.ones(1, 2)).sum()).backward()
        clips.passed()
        if unscale:
            scaler.unscale_(optimizer)
        clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        row = clips.taken()
        scaler.update()
    scalers.stop()

    assert (row.order, row.seen) == ((1, pytest.approx(3**0.5)) if unscale
                                     else (3, pytest.approx(64 * 3**0.5)))  # fmt: skip


def test_parameters_that_are_not_watched_do_not_count() -> None:
    own, other = weights(3.0), weights(4.0)

    with seeing(watched=lambda: own) as clips:
        clips.passed()
        clip_grad_norm_(other, 1.0)
        clip_grad_value_(other, 1.0)
        assert clips.taken().calls == 0
        clip_grad_norm_([*other, *own], 1.0)
        clip_grad_value_(own, 1.0)
        assert clips.taken().calls == 2


def test_norm_that_is_infinite_raises_the_user_s_error_only() -> None:
    own = weights(float("inf"))

    with seeing() as clips:
        clips.passed()
        with pytest.raises(RuntimeError, match="non-finite"):
            clip_grad_norm_(own, 1.0, error_if_nonfinite=True)

        assert clips.taken().calls == 0  # it clipped nothing


def test_taking_the_norm_alone_is_not_clipping() -> None:
    own = weights(3.0)

    with seeing() as clips:
        torch.nn.utils.get_total_norm([w.grad for w in own if w.grad is not None])

        assert clips.taken().calls == 0


def test_sparse_gradient_is_seen_by_its_largest_entry() -> None:
    embedding = nn.Embedding(5, 2, sparse=True)
    (3 * embedding(torch.tensor([1, 1]))).sum().backward()
    weight = embedding.weight
    assert weight.grad is not None

    with seeing() as clips:
        clips.passed()
        with pytest.raises((RuntimeError, NotImplementedError)):  # torch's clamp has no sparse form
            clip_grad_value_([weight], 0.5)

        assert clips.taken() == ClipRow(1, 0.5, 6.0, 1, "value")


def test_wrapper_that_somebody_wrapped_in_turn_stays_and_only_passes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clips = ClipCalls(Guard(on_fault=lambda: None))
    clips.start()
    ours = getattr(clip_grad, SCALES)

    def theirs(*args: Any, **options: Any) -> Any:
        return ours(*args, **options)

    setattr(clip_grad, SCALES, theirs)
    clips.stop()

    try:
        assert getattr(clip_grad, SCALES) is theirs
        own = weights(3.0)
        clip_grad_norm_(own, 1.0)
        assert own[0].grad is not None
        assert own[0].grad.norm().item() == pytest.approx(1.0)
        assert clips.taken().calls == 0
    finally:
        setattr(clip_grad, SCALES, OWN[SCALES])


def test_failure_of_ours_does_not_reach_the_clip() -> None:
    guard = Guard(on_fault=lambda: None)
    clips = ClipCalls(guard, scaled=lambda gradients: bool(1 / 0))
    clips.start()
    own = weights(3.0)
    try:
        clip_grad_norm_(own, 1.0)
    finally:
        clips.stop()

    assert own[0].grad is not None
    assert own[0].grad.norm().item() == pytest.approx(1.0)
    assert guard.fault is not None and "ZeroDivisionError" in guard.fault
