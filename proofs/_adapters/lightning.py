"""Lightning under both its names: a Trainer with `gradient_clip_val`, beside the plain loop.

Also shows, in both: a training resumed from a checkpoint with the callback attached, whose loggers
go on where they were; a training that raises and leaves no hook behind; a compiled module.
"""

from __future__ import annotations

import csv
import logging
import sys
import tempfile
import warnings
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import lightning.pytorch
import numpy as np
import pytorch_lightning
import torch
from proofs._adapters import plain
from proofs._adapters.compare import compared, sampled_reaches, tell
from torch.utils.data import DataLoader, TensorDataset

import gradreach as gr
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


def curve_of(folder: Path) -> list[int]:
    """Return the steps at which a CSV logger was told a gradient norm."""
    (file,) = folder.rglob("metrics.csv")
    with file.open(newline="") as lines:
        return [
            int(line["step"]) for line in csv.DictReader(lines) if line["gradreach/gradient_norm"]
        ]


def resumes(framework: ModuleType) -> bool:
    """Whether a checkpoint made with the callback attached is gone on from, with one curve."""
    options = {**plain.OPTIONS, "loggers": "trainer"}
    with tempfile.TemporaryDirectory() as folder:
        place, path = Path(folder), f"{folder}/last.ckpt"

        def fit(name: str, epochs: int, **rest: Any) -> tuple[Any, WatchCallback]:
            logger = import_module(f"{framework.__name__}.loggers").CSVLogger(place / name)
            callback = WatchCallback(**options)
            trainer = trainer_of(framework, callback, max_epochs=epochs, logger=logger)
            trainer.fit(module_of(framework), loader(), **rest)
            return trainer, callback

        first, _ = fit("first", 1)
        first.save_checkpoint(path)
        _, callback = fit("second", 2, ckpt_path=path)
        steps = curve_of(place / "first") + curve_of(place / "second")
        return len(callback.history) == plain.STEPS and steps == list(range(2 * plain.STEPS))


def compiled_is_seen(framework: ModuleType, history: gr.History) -> bool:
    """Whether a module that went through torch.compile has the same norms, and a flow or a reason.

    What dynamo takes into its graph has no hooks; the watch then has to say so.
    """
    callback = WatchCallback(**plain.OPTIONS)
    module = torch.compile(module_of(framework), backend="eager")
    trainer_of(framework, callback).fit(module, loader())
    seen = callback.history
    flow = sampled_reaches(seen) == sampled_reaches(history)
    reason = any(event.kind == "blind" for event in seen.events)
    return np.array_equal(seen["gradient_norm"], history["gradient_norm"]) and (flow or reason)


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
        own["checks"]["goes on from a checkpoint, with one curve"] = resumes(framework)
        own["checks"]["compiled module: the norms, and the flow or why not"] = compiled_is_seen(
            framework, callback.history
        )
        checks = own.pop("checks")
        name = framework.__name__
        figures["checks"] |= {f"{name}: {what}": held for what, held in checks.items()}
        figures[name] = own
    return tell(figures, ("lightning", "pytorch-lightning"))


if __name__ == "__main__":
    sys.exit(main())
