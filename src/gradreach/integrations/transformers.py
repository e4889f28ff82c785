"""A callback for the Trainer of Hugging Face's transformers.

``Trainer(model, args, ..., callbacks=[WatchCallback(run="runs/a")])``

The events answered are ``on_train_begin`` and ``on_train_end``. Trainer tells its callbacks
nothing of a training that raised: the watch then ends when the callback is dropped, when another
training begins, or by ``callback.end()``.
"""

from __future__ import annotations

from typing import Any

from gradreach.integrations.attachment import Attachment

__all__ = ["WatchCallback"]


class WatchCallback(Attachment):
    """Watches what ``Trainer.train`` trains.

    Takes the keyword arguments of :func:`gradreach.watch`. Trainer's own callbacks see gradients
    after clipping; the watch sees them before and after.

    Example:
        >>> WatchCallback(cost="full").on_step_begin("args", "state", "control", model=None)
    """

    def on_train_begin(
        self, args: Any, state: Any, control: Any, *, model: Any, **rest: Any
    ) -> None:
        """Begin: the model is placed, and a checkpoint to go on from is loaded."""
        self.begin(model, first_rank=state.is_world_process_zero, first_step=state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """End with the training."""
        self.end()
