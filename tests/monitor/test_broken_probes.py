"""Each function of the probes and of the guard made to raise: training ends as it would have."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import optimizer as optimizers

import gradreach as gr
from gradreach.monitor import (
    ambient,
    blocking,
    clip_calls,
    kept_passes,
    line_probes,
    nonfinite_place,
    scaler_calls,
    step_guard,
    tape,
    tape_replay,
    tape_values,
)
from gradreach.monitor.tape import modes

POINTS: list[tuple[Any, str]] = [
    (clip_calls.ClipCalls, "start"),
    (clip_calls.ClipCalls, "passed"),
    (clip_calls.ClipCalls, "taken"),
    (clip_calls.ClipCalls, "_note"),
    (clip_calls.ClipCalls, "_note_norm"),
    (clip_calls.ClipCalls, "_note_group"),
    (clip_calls, "_common"),
    (clip_calls, "_largest"),
    (scaler_calls.ScalerCalls, "start"),
    (scaler_calls.ScalerCalls, "factor"),
    (scaler_calls.ScalerCalls, "scaled"),
    (scaler_calls.ScalerCalls, "_note_factor"),
    (scaler_calls.ScalerCalls, "_note_step"),
    (scaler_calls, "_tensors"),
    (tape.Tape, "__init__"),
    (tape.Tape, "begin"),
    (tape.Tape, "end"),
    (tape.Tape, "attempt"),
    (tape.Tape, "decline"),
    (tape.Tape, "_keep"),
    (tape.Tape, "_note"),
    (tape.Tape, "_close"),
    (tape, "_why_not"),
    (tape, "_written"),
    (tape, "_is_given"),
    (tape_values.TapeValues, "ref"),
    (tape_values.TapeValues, "bind"),
    (tape_values.TapeValues, "keep"),
    (tape, "mapped"),
    (tape_replay, "mapped"),
    (tape_replay, "_run"),
    (tape_replay, "kept_ambient"),
    (ambient.Ambient, "set"),
    (line_probes.LineProbes, "arm"),
    (line_probes.LineProbes, "_enter"),
    (line_probes.LineProbes, "_begin"),
    (line_probes.LineProbes, "_passing"),
    (line_probes.LineProbes, "_passed"),
    (line_probes.LineProbes, "_look_before"),
    (line_probes.LineProbes, "_look_after"),
    (line_probes.LineProbes, "before_step"),
    (line_probes.LineProbes, "after_step"),
    (line_probes, "searched"),
    (line_probes, "replayed_gradients"),
    (line_probes, "replayed_loss"),
    (blocking.Blocking, "start"),
    (blocking.Blocking, "blocking"),
    (blocking.Blocking, "_stepped"),
    (blocking.Blocking, "_blocked"),
    (kept_passes.KeptPasses, "start"),
    (kept_passes.KeptPasses, "stepped"),
    (kept_passes.KeptPasses, "found"),
    (kept_passes._Recorder, "_enter_call"),
    (step_guard.StepGuard, "start"),
    (step_guard.StepGuard, "_gate"),
    (step_guard.StepGuard, "_prepare"),
    (step_guard.StepGuard, "_judge"),
    (step_guard.StepGuard, "_looks_at"),
    (step_guard.StepGuard, "_locate"),
    (step_guard, "all_finite"),
    (step_guard, "bad_parameters"),
    (step_guard, "place_of"),
    (nonfinite_place, "_in_chain"),
]


def trained(*, watched: bool) -> tuple[list[Tensor], str]:
    """Return what a training leaves, and what the watch said went wrong."""
    torch.manual_seed(3)
    model = nn.Sequential()
    model.rnn, model.out = nn.GRU(3, 5), nn.Linear(5, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    watch = gr.watch(model, optimizer, cost="full", block_nonfinite=True) if watched else None
    if watch is not None:
        watch.start()
    for step in range(5):
        x = torch.randn(6, 2, 3)
        optimizer.zero_grad()
        with torch.no_grad():
            model.rnn(x)
        hidden = 2 * model.rnn(x)[0]
        hidden += 1  # in place: the tape copies what is written into
        loss = model.out(hidden).square().mean()
        if step == 2:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            continue
        loss.backward()
        clip_grad_norm_(model.parameters(), 0.5)
        clip_grad_value_(model.parameters(), 0.1)
        optimizer.step()
    if step == 4 and watched:  # a bad gradient, which the broken guard may let through or not
        kept = [p.detach().clone() for p in model.parameters()]
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, torch.nan)
        optimizer.step()
        with torch.no_grad():
            for parameter, value in zip(model.parameters(), kept, strict=True):
                parameter.copy_(value)
    told = ""
    if watch is not None:
        watch.stop()
        reasons = [probe.reason for probe in watch.history.probes]
        told = "".join([watch.trouble or "", *reasons, *(str(e) for e in watch.history.events)])
    return [p.detach().clone() for p in (*model.parameters(), torch.get_rng_state())], told


@pytest.fixture(scope="module")
def alone() -> list[Tensor]:
    return trained(watched=False)[0]


@pytest.mark.parametrize(
    ("owner", "name"), POINTS, ids=lambda part: getattr(part, "__name__", part)
)
def test_broken_function_harms_nothing_and_is_told(
    owner: Any, name: str, alone: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, backward = torch.autograd.backward, Tensor.backward
    called: list[bool] = []

    def broken(*args: Any, **options: Any) -> Any:
        called.append(True)
        raise ValueError("broken on purpose")

    monkeypatch.setattr(owner, name, broken)

    left, told = trained(watched=True)

    assert called
    assert all(map(torch.equal, alone, left))
    assert "broken on purpose" in told
    assert (torch.autograd.backward, Tensor.backward) == (own, backward)
    assert modes() == []
    assert not optimizers._global_optimizer_pre_hooks
    assert not optimizers._global_optimizer_post_hooks
