"""The one loop: it does what the plain loop written out does, and nothing beside."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import gradreach as gr
from gradreach.training import Training, supervised


def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(4, 7, 2, generator=generator), torch.randn(4, 7, 5, generator=generator)


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(2, 5, batch_first=True, dropout=0.0)
        self.drop = nn.Dropout(0.2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(self.rnn(x)[0])


def make(**rest: object) -> Training:
    torch.manual_seed(3)
    model = Reader()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    return Training(model, optimizer, batch, supervised(nn.functional.mse_loss), **{
        "steps": 12, **rest})  # fmt: skip


def test_run_makes_the_bits_of_the_plain_loop() -> None:
    torch.manual_seed(3)
    model = Reader()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    losses = []
    for step in range(12):
        x, y = batch(step)
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.05)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())

    training = make(clip=0.05)
    training.scheduler = torch.optim.lr_scheduler.ExponentialLR(training.optimizer, 0.9)
    trained = training.run()

    assert trained.losses.tolist() == losses
    assert trained.stopped is None and trained.metric == losses[-1]
    for mine, theirs in zip(training.model.parameters(), model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_evaluation_sees_evaluation_mode_and_leaves_modes_as_they_were() -> None:
    seen = []

    def evaluate(model: nn.Module) -> dict[str, float]:
        seen.append((model.drop.training, torch.is_grad_enabled()))
        return {"mse": float(len(seen)), "other": 0.0}

    training = make(evaluate=evaluate, evaluate_every=5)
    training.model.rnn.eval()  # train() in run() undoes this, as in any loop
    trained = training.run()

    assert seen == [(False, False)] * 3
    assert [(e.step, e.metric) for e in trained.evaluations] == [(5, 1.0), (10, 2.0), (12, 3.0)]
    assert trained.metric == 3.0
    assert training.model.drop.training


def test_evaluation_that_fails_leaves_training_mode() -> None:
    def evaluate(model: nn.Module) -> float:
        raise RuntimeError("mine")

    training = make(evaluate=evaluate)
    with pytest.raises(RuntimeError, match="mine"):
        training.run()

    assert training.model.drop.training


def test_until_ends_the_run_at_an_evaluation() -> None:
    training = make(evaluate=lambda model: 1.0, evaluate_every=4)

    trained = training.run(until=lambda evaluation: evaluation.step == 8)

    assert (trained.steps, trained.stopped, len(trained.evaluations)) == (8, "solved", 2)


def test_losses_not_finite_end_the_run_after_as_many_as_said() -> None:
    training = make(patience=3)
    training.loss = lambda model, given: model(given[0]).sum() * float("nan")

    trained = training.run()

    assert (trained.steps, trained.stopped) == (3, "nonfinite")


def test_iterable_begins_anew_and_an_empty_one_is_refused() -> None:
    listed = [batch(0), batch(1), batch(2)]
    training = make()
    training.batches = listed
    told: list[tuple[int, float]] = []
    training.on_step.append(lambda step, loss: told.append((step, loss)))

    trained = training.run()

    assert [step for step, _ in told] == list(range(1, 13))
    assert [loss for _, loss in told] == trained.losses.tolist()
    training.batches = []
    with pytest.raises(ValueError, match="gave no batch; give one with at least one"):
        training.run()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"steps": -1}, "'steps' must be a whole number of at least 0; got -1"),
        ({"steps": True}, "'steps' must be a whole number"),
        ({"patience": 0}, "'patience' must be a whole number of at least 1"),
        ({"evaluate_every": 0}, "'evaluate_every' must be"),
        ({"clip": 0.0}, "'clip' must be above 0; got 0.0"),
    ],
)
def test_arguments_out_of_range_are_named(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make(**wrong)


def test_batches_of_a_wrong_kind_are_named() -> None:
    with pytest.raises(TypeError, match="'batches' must be a function .*; got int"):
        Training(nn.Identity(), None, 3, supervised(nn.functional.mse_loss), steps=1)  # type: ignore[arg-type]


def test_watched_run_has_the_bits_of_an_unwatched_one() -> None:
    trained = make().run()

    seen = make()
    with gr.watch(seen.model, seen.optimizer, every=3) as watched:
        again = seen.run()

    assert again.losses.tolist() == trained.losses.tolist()
    assert len(watched.history) == 12
