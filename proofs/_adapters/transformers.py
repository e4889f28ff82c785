"""Hugging Face Trainer with its `max_grad_norm`, beside the plain loop."""

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


def train(callback: WatchCallback | None) -> plain.Trained:
    """Train in Trainer."""
    x, y = plain.data()
    model = Answering()
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=plain.BATCH,
            num_train_epochs=1,
            max_grad_norm=plain.CLIP,
            logging_steps=1,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
            remove_unused_columns=False,
        )
        optimizer = plain.new_optimizer(model.net)
        trainer = InOrder(
            model=model,
            args=settings,
            train_dataset=[{"x": one, "y": other} for one, other in zip(x, y, strict=True)],
            optimizers=(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)),
            callbacks=[] if callback is None else [callback],
        )
        trainer.train()
        told = [entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry]
    history = None if callback is None else callback.history
    return plain.Trained(plain.weights_of(model.net), told, history=history)


def main() -> int:
    """Compare, and tell the figures."""
    loop, watched_loop = plain.train(False, sampled=(0, 5, 20)), plain.train(True)
    unwatched, watched = train(None), train(WatchCallback(**plain.OPTIONS))
    figures = compared(loop, watched_loop, unwatched, watched, prefix="net.")
    # The one number of Trainer's own that is taken before clipping.
    figures["checks"]["Trainer logs the loop's norms"] = unwatched.norms == loop.norms
    return tell(figures, ("transformers",))


if __name__ == "__main__":
    sys.exit(main())
