"""A callback for the torch models of darts, which train in ``pytorch_lightning``.

``RNNModel(..., pl_trainer_kwargs={"callbacks": [WatchCallback(run="runs/a")]})``

darts keeps the arguments of a model in what ``model.save`` writes: the callback is saved without
its watches, and gradreach must be installed where the model is loaded.
"""

from __future__ import annotations

from gradreach.integrations import lightning

__all__ = ["WatchCallback"]


class WatchCallback(lightning.WatchCallback):
    """Watches what ``model.fit`` trains: ``RNNModel``, ``BlockRNNModel`` and your own modules.

    Takes the keyword arguments of :func:`gradreach.watch`. Each call of ``fit`` is a training of
    its own in ``watches``.

    Example:
        >>> kwargs = {"callbacks": [WatchCallback(every=10)]}
    """
