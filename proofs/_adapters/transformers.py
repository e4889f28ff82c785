"""Hugging Face Trainer with its `max_grad_norm`, beside the plain loop.

Also shows that a training taken up from a checkpoint goes on in the curves of the watch's loggers.
"""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any

import torch
from proofs._adapters import plain
from proofs._adapters.compare import compared, tell
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

from gradreach.integrations.transformers import WatchCallback

os.environ["HF_HUB_OFFLINE"] = "1"


class Answering(nn.Module):
    """The network in the form that Trainer asks for: it returns its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.net = plain.new_model()

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Return the loss under the name that Trainer reads."""
        return {"loss": plain.loss_of(self.net, x, y)}


class InOrder(Trainer):
    """A Trainer that reads its data in order, as the loop does."""

    def _get_train_sampler(self, *args: Any) -> torch.utils.data.Sampler[int]:
        return torch.utils.data.SequentialSampler(self.train_dataset)


def new_trainer(model: Answering, callback: WatchCallback | None, **rest: Any) -> Trainer:
    """Return a Trainer that trains as the loop does."""
    x, y = plain.data()
    settings: dict[str, Any] = {
        "per_device_train_batch_size": plain.BATCH,
        "num_train_epochs": 1,
        "max_grad_norm": plain.CLIP,
        "logging_steps": 1,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "remove_unused_columns": False,
        **rest,
    }
    optimizer = plain.new_optimizer(model.net)
    return InOrder(
        model=model,
        args=TrainingArguments(**settings),
        train_dataset=[{"x": one, "y": other} for one, other in zip(x, y, strict=True)],
        optimizers=(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)),
        callbacks=[] if callback is None else [callback],
    )


def train(callback: WatchCallback | None) -> plain.Trained:
    """Train in Trainer."""
    model = Answering()
    with tempfile.TemporaryDirectory() as folder:
        trainer = new_trainer(model, callback, output_dir=folder)
        trainer.train()
        told = [entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry]
    history = None if callback is None else callback.history
    return plain.Trained(plain.weights_of(model.net), told, history=history)


def resumed_steps() -> list[int]:
    """Return the steps that a logger was told before a checkpoint and after it."""
    steps: list[int] = []
    options = {**plain.OPTIONS, "loggers": [lambda numbers, step: steps.append(step)]}
    with tempfile.TemporaryDirectory() as folder:
        first = new_trainer(
            Answering(), WatchCallback(**options), output_dir=folder, save_strategy="epoch"
        )
        first.train()
        callback = WatchCallback(**options)
        second = new_trainer(Answering(), callback, output_dir=folder, num_train_epochs=2)
        second.train(resume_from_checkpoint=f"{folder}/checkpoint-{plain.STEPS}")
    return steps


def main() -> int:
    """Compare, and tell the figures."""
    loop, watched_loop = plain.train(False, sampled=(0, 5, 20)), plain.train(True)
    unwatched, watched = train(None), train(WatchCallback(**plain.OPTIONS))
    figures = compared(loop, watched_loop, unwatched, watched, prefix="net.")
    # The one number of Trainer's own that is taken before clipping.
    figures["checks"]["Trainer logs the loop's norms"] = unwatched.norms == loop.norms
    checks = figures["checks"]
    checks["goes on from a checkpoint, with one curve"] = resumed_steps() == list(
        range(2 * plain.STEPS)
    )
    return tell(figures, ("transformers",))


if __name__ == "__main__":
    sys.exit(main())
