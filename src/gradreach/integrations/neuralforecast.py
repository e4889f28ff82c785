"""A callback for neuralforecast, whose models train in ``pytorch_lightning``.

``LSTM(h=12, input_size=24, ..., callbacks=[WatchCallback(run="runs/a")])``

``NeuralForecast(models=...)`` trains copies of its models and of their callbacks. A copy of this
callback is itself, so that what was seen is found in the object you made.
"""

from __future__ import annotations

from gradreach.integrations import lightning

__all__ = ["WatchCallback"]


class WatchCallback(lightning.WatchCallback):
    """Watches what ``NeuralForecast.fit`` trains.

    Takes the keyword arguments of :func:`gradreach.watch`. Where several models share one
    callback, each is a training of its own in ``watches``, in their order.

    Example:
        >>> import copy
        >>> callback = WatchCallback(needs_lag=24)
        >>> copy.deepcopy({"callbacks": [callback]})["callbacks"][0] is callback
        True
    """
