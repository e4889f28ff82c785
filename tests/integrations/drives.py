"""Calls a callback as each framework does, in its order, around a small training.

The orders were read from the frameworks' sources (versions in proofs/adapters.py). That the
frameworks really call so is shown by `./dev proof adapters`, inside them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from gradreach.integrations import lightning, sb3, skorch, transformers
from gradreach.integrations.attachment import Attachment

STEPS, CLIP = 4, 0.02

Step = Callable[[], None]


class Network(nn.Module):
    """An LSTM and a number read from its last state."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lstm, self.head = nn.LSTM(3, 6), nn.Linear(6, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x)[0][-1])


class Training:
    """Steps of a training, one at a time; a closure where the framework gives the optimizer one."""

    def __init__(self, raises_at: int | None = None) -> None:
        self.model = Network()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.raises_at = raises_at
        self.done = 0
        self.norms: list[float] = []

    def step(self, closure: bool = False) -> None:
        if closure:
            self.optimizer.step(self._compute)
        else:
            self._compute()
            self.optimizer.step()
        self.done += 1

    def _compute(self) -> torch.Tensor:
        if self.done == self.raises_at:
            raise ZeroDivisionError("the training's own failure")
        self.optimizer.zero_grad()
        x = torch.randn(12, 2, 3, generator=torch.Generator().manual_seed(self.done))
        loss = self.model(x).square().mean()
        loss.backward()
        self.norms.append(float(nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)))
        return loss


def drive_lightning(callback: Any, training: Training, **state: Any) -> None:
    """`Trainer.fit`: every event goes to every callback, the step runs a closure."""
    trainer = SimpleNamespace(
        **{"is_global_zero": True, "global_step": 0, "loggers": [], **state},
    )
    module = training.model
    callback.log = callback.log_dict = print  # as Lightning writes into its callbacks

    def tell(event: str, *more: Any) -> None:
        getattr(callback, event)(trainer, module, *more)

    callback.setup(trainer, module, "fit")
    for event in ("on_fit_start", "on_sanity_check_start", "on_sanity_check_end"):
        tell(event)
    try:
        tell("on_train_start")
        tell("on_train_epoch_start")
        for number in range(STEPS):
            tell("on_train_batch_start", None, number)
            training.step(closure=True)
            tell("on_train_batch_end", None, None, number)
        tell("on_train_epoch_end")
        callback.on_save_checkpoint(trainer, module, {"callbacks": callback.state_dict()})
        tell("on_train_end")
        tell("on_fit_end")
    except BaseException as error:
        tell("on_exception", error)
        callback.teardown(trainer, module, "fit")
        raise
    callback.teardown(trainer, module, "fit")


def drive_transformers(callback: Any, training: Training, **state: Any) -> None:
    """`Trainer.train`: all arguments of an event come by name beside the first three."""
    given = SimpleNamespace(**{"is_world_process_zero": True, "global_step": 0, **state})

    def tell(event: str) -> None:
        answer = getattr(callback, event)(
            "args", given, "control", model=training.model, optimizer=training.optimizer
        )
        assert answer is None  # anything else would stand for the control

    tell("on_init_end")
    tell("on_train_begin")
    tell("on_epoch_begin")
    for _ in range(STEPS):
        tell("on_step_begin")
        tell("on_pre_optimizer_step")
        training.step()
        tell("on_optimizer_step")
        tell("on_step_end")
    tell("on_epoch_end")
    tell("on_train_end")


def drive_skorch(callback: Any, training: Training) -> None:
    """`NeuralNet.fit`: the net first, the rest by name; the step runs a closure."""
    net = SimpleNamespace(module_=training.model)
    callback = callback.initialize()
    callback.on_train_begin(net, X=None, y=None)
    callback.on_epoch_begin(net, dataset_train=None, dataset_valid=None)
    for _ in range(STEPS):
        callback.on_batch_begin(net, batch=None, training=True)
        training.step(closure=True)
        callback.on_grad_computed(net, named_parameters=None, batch=None, training=True)
        callback.on_batch_end(net, batch=None, training=True, loss=0.0)
    callback.on_epoch_end(net, dataset_train=None, dataset_valid=None)
    callback.on_train_end(net, X=None, y=None)


def drive_sb3(callback: Any, training: Training) -> None:
    """`learn`: a list of callbacks passes its own events on; rollouts come before updates."""
    callback.init_callback(SimpleNamespace(policy=training.model))
    callback.parent = None
    callback.on_training_start({}, {})
    for _ in range(STEPS // 2):
        callback.on_rollout_start()
        with torch.no_grad():
            training.model(torch.zeros(1, 1, 3))
        callback.update_locals({"n_steps": 1})
        assert callback.on_step()
        callback.on_rollout_end()
        training.step()
        training.step()
    callback.on_training_end()


DRIVES: dict[str, tuple[type[Attachment], Callable[..., None]]] = {
    "lightning": (lightning.WatchCallback, drive_lightning),
    "transformers": (transformers.WatchCallback, drive_transformers),
    "skorch": (skorch.WatchCallback, drive_skorch),
    "sb3": (sb3.WatchCallback, drive_sb3),
}


def hooks() -> Iterator[int]:
    """Yield how many hooks stand in each of torch's tables that a watch uses."""
    modules = torch.nn.modules.module
    yield len(modules._global_forward_hooks)
    yield len(modules._global_forward_pre_hooks)
    optimizers = __import__("sys").modules["torch.optim.optimizer"]
    yield len(optimizers._global_optimizer_pre_hooks)
    yield len(optimizers._global_optimizer_post_hooks)
