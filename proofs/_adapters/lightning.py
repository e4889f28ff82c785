"""Lightning under both its names: a Trainer with `gradient_clip_val`, beside the plain loop.

Also shows that a training can be resumed from a checkpoint with the callback attached, and that
a training that raises leaves no hook behind.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from importlib import import_module
from types import ModuleType
from typing import Any

import lightning.pytorch
import pytorch_lightning
import torch
from proofs._adapters import plain
from proofs._adapters.compare import compared, tell
from torch.utils.data import DataLoader, TensorDataset

from gradreach.integrations.lightning import WatchCallback

warnings.filterwarnings("ignore")  # of Lightning's, about workers and logging steps
for name in ("lightning.pytorch", "pytorch_lightning"):
    logging.getLogger(name).setLevel(logging.ERROR)


def module_of(framework: ModuleType, raises_at: int | None = None) -> Any:
    """Return the network as a LightningModule of one of the two packages."""

    class Lit(framework.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.net = plain.new_model()

        def training_step(self, batch: Any, number: int) -> torch.Tensor:
            if number == raises_at:
                raise RuntimeError("the training's own failure")
            return plain.loss_of(self.net, *batch)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return plain.new_optimizer(self.net)

    return Lit()


def trainer_of(framework: ModuleType, callback: WatchCallback | None, **rest: Any) -> Any:
    """Return a quiet Trainer."""
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "gradient_clip_val": plain.CLIP,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": [] if callback is None else [callback],
        **rest,
    }
    return framework.Trainer(**settings)


def loader() -> DataLoader[Any]:
    """Return the batches in their order."""
    return DataLoader(TensorDataset(*plain.data()), batch_size=plain.BATCH)


def train(framework: ModuleType, callback: WatchCallback | None) -> plain.Trained:
    """Train in one of the two packages."""
    module = module_of(framework)
    trainer_of(framework, callback).fit(module, loader())
    history = None if callback is None else callback.history
    return plain.Trained(plain.weights_of(module.net), history=history)


def hooks_left() -> int:
    """Return the number of hooks that stand where a watch sets its own."""
    modules = torch.nn.modules.module
    optimizers = import_module("torch.optim.optimizer")  # torch.optim hides the name
    return sum(
        len(hooks)
        for hooks in (
            modules._global_forward_hooks,
            modules._global_forward_pre_hooks,
            optimizers._global_optimizer_pre_hooks,
            optimizers._global_optimizer_post_hooks,
        )
    )


def stops_when_training_raises(framework: ModuleType) -> bool:
    """Whether a failing training leaves nothing of the watch behind."""
    before, callback = hooks_left(), WatchCallback(**plain.OPTIONS)
    try:
        trainer_of(framework, callback).fit(module_of(framework, raises_at=7), loader())
    except RuntimeError as error:
        seen = str(error) == "the training's own failure" and len(callback.history) == 7
        return seen and hooks_left() == before
    return False


def resumes(framework: ModuleType) -> bool:
    """Whether a checkpoint made with the callback attached is gone on from."""
    with tempfile.TemporaryDirectory() as folder:
        first = trainer_of(framework, WatchCallback(**plain.OPTIONS))
        first.fit(module_of(framework), loader())
        path = f"{folder}/last.ckpt"
        first.save_checkpoint(path)
        callback = WatchCallback(**plain.OPTIONS)
        second = trainer_of(framework, callback, max_epochs=2)
        second.fit(module_of(framework), loader(), ckpt_path=path)
        return len(callback.history) == plain.STEPS and second.global_step == 2 * plain.STEPS


def main() -> int:
    """Compare, and tell the figures of both packages."""
    loop, watched_loop = plain.train(False, sampled=(0, 5, 20)), plain.train(True)
    figures: dict[str, Any] = {"checks": {}}
    for framework in (lightning.pytorch, pytorch_lightning):
        callback = WatchCallback(**plain.OPTIONS)
        own = compared(
            loop, watched_loop, train(framework, None), train(framework, callback), prefix="net."
        )
        own["checks"]["stops when training raises"] = stops_when_training_raises(framework)
        own["checks"]["resumes from a checkpoint"] = resumes(framework)
        checks = own.pop("checks")
        name = framework.__name__
        figures["checks"] |= {f"{name}: {what}": held for what, held in checks.items()}
        figures[name] = own
    return tell(figures, ("lightning", "pytorch-lightning"))


if __name__ == "__main__":
    sys.exit(main())
