"""Keras is not supported, on any backend, and says so at once."""

from __future__ import annotations

from typing import Any, NoReturn

from gradreach.errors import NotMeasurableError

__all__ = ["WatchCallback"]


class WatchCallback:
    """Refuses: what a Keras layer passes from step to step cannot be seen from outside.

    On the torch backend the layers of Keras are loops of its own, with weights that belong to
    no torch module. Their callbacks run when the gradients are gone.

    Raises:
        NotMeasurableError: Always.

    Example:
        >>> WatchCallback()
        Traceback (most recent call last):
        gradreach.errors.NotMeasurableError: WatchCallback(): the recurrent layers of Keras ...
    """

    def __new__(cls, *args: Any, **options: Any) -> NoReturn:
        """Refuse before anything is attached."""
        raise NotMeasurableError(
            "WatchCallback(): the recurrent layers of Keras keep their states out of torch's sight "
            "on every backend, so that none of them can be watched: train the same network with "
            "torch.nn.LSTM, GRU or RNN"
        )
