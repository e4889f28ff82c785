"""A callback for Lightning, under both its names.

``trainer = Trainer(callbacks=[WatchCallback(run="runs/a")])``

The events answered are ``on_train_start``, ``on_train_end``, ``on_exception`` and ``teardown``;
Lightning calls the others too, and they pass. It needs no base class, and there are two:
``lightning.pytorch.Callback`` and ``pytorch_lightning.Callback`` do not know each other.
"""

from __future__ import annotations

from typing import Any

from gradreach.integrations.attachment import Attachment

__all__ = ["WatchCallback"]


class WatchCallback(Attachment):
    """Watches what ``Trainer.fit`` trains.

    Takes the keyword arguments of :func:`gradreach.watch`; ``loggers="trainer"`` stands for the
    loggers of the Trainer. In a distributed training every rank watches and the first one
    writes.

    Example:
        >>> callback = WatchCallback(run="runs/a", loggers="trainer")
        >>> callback.state_dict(), callback.on_validation_epoch_start("trainer", "module")
        ({}, None)
    """

    # ---- the events that say something

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin: weights are loaded and placed, the sanity check is over."""
        self.begin(
            pl_module,
            first_rank=trainer.is_global_zero,
            first_step=trainer.global_step,
            loggers=trainer.loggers,
        )

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """End with the training."""
        self.end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """End with a training that raised, Ctrl-C included."""
        self.end()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """End in any case."""
        self.end()

    # ---- what Lightning asks of every callback

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Do nothing: there is nothing to watch yet."""

    @property
    def state_key(self) -> str:
        """Name of the callback in checkpoints and in Lightning's profiler."""
        return f"{type(self).__module__}.{type(self).__qualname__}"

    @property
    def _legacy_state_key(self) -> type:
        return type(self)  # what a checkpoint of Lightning before 1.5 would be searched for

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: a checkpoint must be loadable without gradreach."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load nothing."""
