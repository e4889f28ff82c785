"""darts: RNNModel and BlockRNNModel on a series, beside a loop on their network and batches.

The loop is given the first weights and the batches that darts itself used, and writes out what
Lightning did with them: the loss, the clipping, the step.
"""

from __future__ import annotations

import copy
import logging
import pickle
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from darts import TimeSeries
from darts.models import BlockRNNModel, RNNModel
from darts.models.forecasting.pl_forecasting_module import ModuleStage
from proofs._adapters import plain
from proofs._adapters.compare import compared, tell
from pytorch_lightning.callbacks import Callback
from torch import nn

import gradreach as gr
from gradreach.integrations.darts import WatchCallback

warnings.filterwarnings("ignore")  # of Lightning's, about workers
for name in ("pytorch_lightning", "darts"):
    logging.getLogger(name).setLevel(logging.ERROR)

RATE = 0.02
MODELS: dict[str, tuple[Callable[..., Any], dict[str, Any], float]] = {
    "RNNModel": (RNNModel, {"model": "LSTM", "training_length": 30, "input_chunk_length": 20}, 0.4),
    "BlockRNNModel": (
        BlockRNNModel,
        {"model": "GRU", "input_chunk_length": 30, "output_chunk_length": 4},
        0.4,
    ),
}


class Taken(Callback):
    """Keeps the first weights and the batches of a training."""

    def __init__(self) -> None:
        self.first: Any = None
        self.batches: list[Any] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Keep the network as it is before its first step."""
        self.first = copy.deepcopy(pl_module.state_dict())

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, number: int) -> None:
        """Keep a batch."""
        self.batches.append(copy.deepcopy(batch))


def series() -> TimeSeries:
    """Return two waves and some noise."""
    time = np.arange(220)
    noise = np.random.default_rng(0).normal(0, 0.1, time.size)
    values = np.sin(time / 5) + 0.5 * np.sin(time / 17) + noise
    return TimeSeries.from_values(values.astype(np.float32))


def train(name: str, callback: Any) -> tuple[plain.Trained, Any]:
    """Train as users do, with one more callback."""
    make, own, threshold = MODELS[name]
    model = make(
        **own,
        hidden_dim=16,
        batch_size=16,
        n_epochs=2,
        optimizer_kwargs={"lr": RATE},
        random_state=0,
        pl_trainer_kwargs={
            "accelerator": "cpu",
            "callbacks": [callback],
            "gradient_clip_val": threshold,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        },
    )
    model.fit(series())
    history = getattr(callback, "history", None)
    return plain.Trained(plain.weights_of(model.model), threshold=threshold, history=history), model


def loop(model: Any, taken: Taken, threshold: float, watched: bool) -> plain.Trained:
    """Train darts' network in a plain loop."""
    net = copy.deepcopy(model.model)
    net.load_state_dict(taken.first)
    net.train()
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE)

    def loss_of(batch: Any) -> torch.Tensor:
        output = net(batch.to_module_input(stage=ModuleStage.TRAIN))
        return nn.functional.mse_loss(output.prediction.squeeze(-1), batch.future_target)

    watch = gr.watch(net, optimizer, **plain.OPTIONS) if watched else None
    if watch is not None:
        watch.start()
    norms, reaches = [], {}
    for step, batch in enumerate(taken.batches):
        if not watched and step in (0, 10):
            reaches[step] = plain.measured(net, lambda batch=batch: loss_of(batch))
        optimizer.zero_grad()
        loss_of(batch).backward()
        norms.append(float(nn.utils.clip_grad_norm_(net.parameters(), threshold)))
        optimizer.step()
    if watch is not None:
        watch.stop()
    history = None if watch is None else watch.history
    return plain.Trained(plain.weights_of(net), norms, threshold, reaches, history)


def main() -> int:
    """Compare, and tell the figures of both models."""
    figures: dict[str, Any] = {"checks": {}}
    for name, (_, _, threshold) in MODELS.items():
        taken, callback = Taken(), WatchCallback(**plain.OPTIONS)
        unwatched, model = train(name, taken)
        watched, saved = train(name, callback)
        own = compared(
            loop(model, taken, threshold, watched=False),
            loop(model, taken, threshold, watched=True),
            unwatched,
            watched,
        )
        # darts keeps the arguments it was made with, callbacks among them, in what it saves.
        own["checks"]["model is saved with the callback"] = bool(pickle.dumps(saved))
        checks = own.pop("checks")
        figures["checks"] |= {f"{name}: {what}": held for what, held in checks.items()}
        figures[name] = own
    return tell(figures, ("darts", "pytorch-lightning"))


if __name__ == "__main__":
    sys.exit(main())
