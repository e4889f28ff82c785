"""Whatever of ours raises, training ends as if nobody had watched, and the watch says so."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from tests.monitor.fault_points import Calls, Fault, functions, wrapped
from tests.monitor.same_bits import Bits
from torch import nn
from torch.nn.utils import clip_grad_norm_

import gradreach as gr

STEPS = 9
FEWEST = 60  # points that the issue asks for


def a_training(start: Callable[[nn.Module, Any], Any], stop: Callable[[Any], None]) -> Bits:
    """Train with all that makes work for the monitor; return what it left."""
    torch.manual_seed(3)
    model = nn.ModuleDict({"rnn": nn.LSTM(2, 3, 2, dropout=0.1), "cell": nn.GRUCell(3, 3)})
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    watched = start(model, optimizer)
    for step in range(STEPS):
        optimizer.zero_grad()
        hidden, output = torch.zeros(2, 3), model["rnn"](torch.randn(5, 2, 2))[0]
        for each in output[:3]:
            hidden = model["cell"](each, hidden)
        loss = (hidden - 1).square().mean() * (1e9 if step == 6 else 1)
        if step % 2:
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            clip_grad_norm_(model.parameters(), 0.5)
            scaler.step(optimizer)
            scaler.update()
        else:
            loss.backward()
            torch.nn.utils.clip_grad_value_(model.parameters(), 0.5)
            optimizer.step()
    stop(watched)
    return Bits.of(model, optimizer)


def attached(model: nn.Module, optimizer: Any) -> gr.Watch:
    return gr.watch(model, optimizer, cost="full", every=2).start()


def called() -> list[str]:
    """Return the functions that such a training calls between start and stop."""
    calls = Calls()

    def start(model: nn.Module, optimizer: Any) -> gr.Watch:
        watched = attached(model, optimizer)
        calls.armed = True
        return watched

    with ExitStack() as stack:
        for name in functions():
            stack.enter_context(wrapped(name, calls.noting(name)))
        a_training(start, gr.Watch.stop)
    return sorted(calls.names)


@pytest.fixture(scope="module")
def points() -> list[str]:
    return called()


@pytest.fixture(scope="module")
def plain() -> Bits:
    return a_training(lambda model, optimizer: None, lambda watched: None)


def check(name: str, plain: Bits) -> str:
    """Make one function raise; return what is wrong with what came of it."""
    fault = Fault()
    kept: list[gr.Watch] = []

    def start(model: nn.Module, optimizer: Any) -> gr.Watch:
        watched = attached(model, optimizer)
        kept.append(watched)
        fault.armed = True
        return watched

    try:
        with wrapped(name, fault.plant):
            bits = a_training(start, gr.Watch.stop)
    except Exception as error:  # noqa: BLE001  the table names every point, not the first alone
        return f"{name}: it reached the training ({error!r})"
    (watched,) = kept
    history, notes = watched.history, " ".join(watched.notes)
    ended = [event for event in history.events if event.kind == "fault"]
    # The loss along an update runs the user's pass again: what raises there ends that probe.
    declined = [probe for probe in history.probes if "PlantedError" in probe.reason]
    problems = {
        "never raised": not fault.raised,
        "other bits": bits != plain,
        "nothing told": not (ended or declined),
        "no trouble": bool(ended) and "PlantedError" not in (watched.trouble or ""),
        "not in the report": bool(ended) and "failed" not in notes,
        f"left {Bits.hooks()}": bool(Bits.hooks()),
    }
    while torch._C._len_torch_function_stack():  # or each later point would be blamed, too
        torch.overrides._pop_mode()
    wrong = [problem for problem, holds in problems.items() if holds]
    return f"{name}: {', '.join(wrong)}" if wrong else ""


def test_fault_in_some_functions_disturbs_nothing(points: list[str], plain: Bits) -> None:
    wrong = [problem for name in points[::8] if (problem := check(name, plain))]

    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_fault_in_every_function_disturbs_nothing(points: list[str], plain: Bits) -> None:
    wrong = [problem for name in points if (problem := check(name, plain))]

    assert not wrong, "\n".join(wrong)
    assert len(points) >= FEWEST
