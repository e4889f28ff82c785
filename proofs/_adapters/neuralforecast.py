"""neuralforecast: LSTM and DilatedRNN, beside a loop on their networks and windows.

`NeuralForecast` trains copies of the models it is given and of their callbacks: the history read
here is that of the object made here. The loop is given the first weights and the windows that
neuralforecast drew, and writes out the loss, the clipping and the step.
"""

from __future__ import annotations

import copy
import logging
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from neuralforecast import NeuralForecast
from neuralforecast.losses.pytorch import MAE
from neuralforecast.models import LSTM, DilatedRNN
from proofs._adapters import plain
from proofs._adapters.compare import compared, tell
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn

import gradreach as gr
from gradreach.integrations.neuralforecast import WatchCallback

warnings.filterwarnings("ignore")  # of Lightning's, about workers
for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch"):
    logging.getLogger(name).setLevel(logging.ERROR)

RATE, STEPS = 0.02, 20
MODELS: dict[str, tuple[Callable[..., Any], dict[str, Any], float]] = {
    "LSTM": (LSTM, {"encoder_hidden_size": 16, "encoder_n_layers": 1}, 0.5),
    "DilatedRNN": (DilatedRNN, {"encoder_hidden_size": 8, "dilations": [[1, 2]]}, 0.5),
}


class KeptMAE(MAE):
    """The mean absolute error; keeps what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[dict[str, Any]] = []

    def __call__(self, **given: Any) -> Tensor:
        """Return the loss."""
        self.asked.append({name: each for name, each in given.items() if name != "y_hat"})
        return super().__call__(**given)


class Taken(Callback):
    """Keeps the first weights and the windows of a training."""

    def __init__(self) -> None:
        self.first: Any = None
        self.windows: list[Any] = []

    def __deepcopy__(self, memo: Any) -> Taken:
        return self

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Keep the network as it is before its first step; listen to its calls."""
        self.first = copy.deepcopy(pl_module.state_dict())
        self.hook = pl_module.register_forward_pre_hook(
            lambda module, given: self.windows.append(copy.deepcopy(given[0]))
        )

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Listen no more."""
        self.hook.remove()


def series() -> pd.DataFrame:
    """Return two series of two waves and some noise."""
    time, draw = np.arange(160), np.random.default_rng(0)
    frames = [
        pd.DataFrame(
            {
                "unique_id": name,
                "ds": time,
                "y": np.sin(time / 5 + shift) + draw.normal(0, 0.1, time.size),
            }
        )
        for name, shift in (("a", 0.0), ("b", 1.0))
    ]
    return pd.concat(frames)


def new_model(name: str, callbacks: list[Any]) -> Any:
    """Return a model of neuralforecast."""
    make, own, threshold = MODELS[name]
    return make(
        h=4,
        input_size=32,
        **own,
        loss=KeptMAE(),
        max_steps=STEPS,
        learning_rate=RATE,
        num_lr_decays=-1,
        batch_size=2,
        windows_batch_size=16,
        random_seed=1,
        scaler_type="identity",
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=threshold,
        callbacks=callbacks,
    )


def train(name: str, callback: Any) -> tuple[plain.Trained, Any]:
    """Train as users do."""
    forecast = NeuralForecast(models=[new_model(name, [callback])], freq=1)
    forecast.fit(series())
    (model,) = forecast.models
    history = getattr(callback, "history", None)
    threshold = MODELS[name][2]
    return plain.Trained(plain.weights_of(model), threshold=threshold, history=history), model


def shared() -> list[tuple[int, list[str]]]:
    """Return steps and layers seen of each of two models that share one callback."""
    callback = WatchCallback(**plain.OPTIONS)
    models = [new_model(name, [callback]) for name in MODELS]
    NeuralForecast(models=models, freq=1).fit(series())
    return [
        (len(watch.history), sorted(watch.history.samples[0].layers)) for watch in callback.watches
    ]


def loop(name: str, taken: Taken, asked: list[dict[str, Any]], watched: bool) -> plain.Trained:
    """Train neuralforecast's network in a plain loop."""
    net, threshold = new_model(name, []), MODELS[name][2]
    net.load_state_dict(taken.first)
    net.train()
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE)

    def loss_of(windows: Any, given: dict[str, Any]) -> Tensor:
        return MAE.__call__(net.loss, y_hat=net.loss.domain_map(net(windows)), **given)

    watch = gr.watch(net, optimizer, **plain.OPTIONS) if watched else None
    if watch is not None:
        watch.start()
    norms, reaches = [], {}
    for step, (windows, given) in enumerate(zip(taken.windows, asked, strict=True)):
        if not watched and step in (0, 10):
            reaches[step] = plain.measured(net, lambda w=windows, g=given: loss_of(w, g))
        optimizer.zero_grad()
        loss_of(windows, given).backward()
        norms.append(float(nn.utils.clip_grad_norm_(net.parameters(), threshold)))
        optimizer.step()
    if watch is not None:
        watch.stop()
    history = None if watch is None else watch.history
    return plain.Trained(plain.weights_of(net), norms, threshold, reaches, history)


def main() -> int:
    """Compare, and tell the figures of both models."""
    figures: dict[str, Any] = {"checks": {}}
    for name in MODELS:
        taken, callback = Taken(), WatchCallback(**plain.OPTIONS)
        unwatched, model = train(name, taken)
        watched, _ = train(name, callback)
        asked = model.loss.asked
        own = compared(
            loop(name, taken, asked, watched=False),
            loop(name, taken, asked, watched=True),
            unwatched,
            watched,
        )
        checks = own.pop("checks")
        figures["checks"] |= {f"{name}: {what}": held for what, held in checks.items()}
        figures[name] = own
    figures["shared"] = shared()
    figures["checks"]["two models that share a callback are two trainings"] = [
        steps for steps, _ in figures["shared"]
    ] == [STEPS, STEPS] and figures["shared"][0][1] != figures["shared"][1][1]
    return tell(figures, ("neuralforecast", "pytorch-lightning"))


if __name__ == "__main__":
    sys.exit(main())
