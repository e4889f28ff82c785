"""``watch(block_nonfinite=…)``: blocked steps are rows and events, with the place."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import optimizer as optimizers

import gradreach as gr

T, B, SIZE = 12, 3, 4
BACKWARD = torch.autograd.backward, Tensor.backward


def left() -> list[int]:
    modules: Any = torch.nn.modules.module
    places = [optimizers._global_optimizer_pre_hooks, optimizers._global_optimizer_post_hooks,
              modules._global_forward_hooks, modules._global_forward_pre_hooks]  # fmt: skip
    return [len(each) for each in places]


def train(model: nn.Module, optimizer: Any, steps: int = 8, bad: tuple[int, ...] = (3,)) -> None:
    for step in range(steps):
        x = torch.randn(T, B, SIZE)
        if step in bad:
            x[5, 2, 0] = torch.nan
        optimizer.zero_grad()
        model(x)[0].square().mean().backward()
        optimizer.step()


def make() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.LSTM(SIZE, 6)
    return model, torch.optim.Adam(model.parameters(), lr=0.01)


@pytest.mark.parametrize("told", [True, False], ids=["optimizer given", "optimizer found"])
def test_blocked_step_is_a_row_and_two_events_with_the_place(told: bool) -> None:
    model, optimizer = make()

    with gr.watch(model, optimizer if told else None, block_nonfinite=True) as watched:
        train(model, optimizer)

    history = watched.history
    assert watched.trouble is None
    assert history["taken"].tolist() == [1, 1, 1, 0, 1, 1, 1, 1]
    assert history["update_norm"][3] == 0.0 and math.isfinite(history["loss"][-1])
    events = {event.kind: event for event in history.events}
    assert "skipped" not in events
    assert events["nonfinite"].step == events["blocked"].step == 3
    numbers = events["nonfinite"].numbers
    assert (numbers["layer"], numbers["where"], numbers["step"], numbers["row"]) == (
        "lstm.l0", "input", 5, 2)  # fmt: skip
    assert numbers["parameter"] == "weight_ih_l0"
    assert events["blocked"].numbers == {"blocked": 1, "limit": None}
    assert left() == [0, 0, 0, 0]


def test_weights_are_those_of_a_run_without_the_bad_batch() -> None:
    def trained(*, skip: bool) -> list[Tensor]:
        model, optimizer = make()
        if not skip:
            with gr.watch(model, optimizer, block_nonfinite=True):
                train(model, optimizer, bad=(2, 5))
        else:
            for step in range(8):
                x = torch.randn(T, B, SIZE)
                optimizer.zero_grad()
                if step not in (2, 5):
                    model(x)[0].square().mean().backward()
                    optimizer.step()
        moments = [part for own in optimizer.state.values() for part in own.values()]
        return [part.detach().clone() for part in (*model.parameters(), *moments)]

    assert all(map(torch.equal, trained(skip=False), trained(skip=True)))


def test_limit_ends_the_training_with_the_place_and_leaves_a_whole_record() -> None:
    model, optimizer = make()

    watch = gr.watch(model, optimizer, block_nonfinite=2)
    with (
        pytest.raises(gr.NonFiniteGradientError, match="step 5, batch row 2, of layer lstm.l0"),
        watch,
    ):
        train(model, optimizer, bad=(1, 3, 4))

    assert watch.trouble is None
    assert watch.history["taken"].tolist() == [1, 0, 1, 0, 0]
    assert [event.kind for event in watch.history.events].count("blocked") == 3
    assert left() == [0, 0, 0, 0]
    assert (torch.autograd.backward, Tensor.backward) == BACKWARD  # a probe was under way


def test_training_goes_on_where_the_limit_is_caught() -> None:
    model, optimizer = make()

    with gr.watch(model, optimizer, block_nonfinite=1) as watched:
        with pytest.raises(gr.NonFiniteGradientError):
            train(model, optimizer, bad=(0, 1))
        train(model, optimizer, steps=3, bad=())

    assert watched.trouble is None
    assert watched.history["taken"].tolist() == [0, 0, 1, 1, 1]


def test_without_it_the_step_is_made() -> None:
    model, optimizer = make()

    with gr.watch(model, optimizer) as watched:
        train(model, optimizer, steps=5)

    assert watched.history["taken"].tolist() == [1] * 5
    assert all(parameter.isnan().any() for parameter in model.parameters())


def test_many_blocked_steps_are_counted_and_not_all_told() -> None:
    model, optimizer = make()

    with gr.watch(model, optimizer, block_nonfinite=True) as watched:
        train(model, optimizer, steps=40, bad=tuple(range(40)))

    assert not watched.history["taken"].any()
    assert 0 < len(watched.history.events) < 60


def test_failure_of_ours_while_a_step_is_blocked_ends_the_watch_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from gradreach.monitor import step_guard

    def broken(*args: Any) -> Any:
        raise ValueError("broken on purpose")

    monkeypatch.setattr(step_guard, "place_of", broken)
    model, optimizer = make()
    model.register_buffer("never", torch.zeros(1))
    optimizer.register_step_post_hook(lambda *_: None)  # a hook of the user's behind ours

    with gr.watch(model, optimizer, block_nonfinite=True) as watched:
        train(model, optimizer, bad=(3,))

    assert "broken on purpose" in (watched.trouble or "")
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert left() == [0, 0, 0, 0]


@pytest.mark.parametrize("given", [0, -1, 2.5, "yes", None])
def test_wrong_argument_is_told(given: Any) -> None:
    with pytest.raises(ValueError, match="argument 'block_nonfinite' must be True, False or a"):
        gr.watch(nn.GRU(2, 2), block_nonfinite=given)
