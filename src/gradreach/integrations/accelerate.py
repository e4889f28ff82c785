"""A watch for loops of Hugging Face's accelerate, which has no callbacks.

``with watch(accelerator, model, run="runs/a") as watched:`` around the loop.
"""

from __future__ import annotations

from typing import Any, Unpack

from gradreach.integrations.attachment import WatchOptions
from gradreach.monitor.watch import Watch
from gradreach.monitor.watch import watch as watch_model

__all__ = ["watch"]


def watch(
    accelerator: Any, model: Any, optimizer: Any = None, **options: Unpack[WatchOptions]
) -> Watch:
    """Watch a loop whose model and optimizers went through ``accelerator.prepare``.

    Steps that accelerate leaves out while it accumulates gradients are no steps here either,
    and what the loop's ``optimizer.step()`` hides, the optimizer inside, is found.

    Args:
        accelerator: The ``Accelerator``: it knows the model inside its wrappers and which
            process may write.
        model: As ``prepare`` returned it, or as it went in.
        optimizer: Likewise, or a list of them; without it every optimizer that steps
            parameters of the model is watched.
        options: Those of :func:`gradreach.watch`. ``loggers=[accelerator]`` sends the numbers
            to the accelerator's trackers.
    """
    if not accelerator.is_main_process:
        options = {**options, "run": None, "loggers": ()}
    return watch_model(accelerator.unwrap_model(model), optimizer, **options)
