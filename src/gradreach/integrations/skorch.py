"""A callback for skorch.

``NeuralNetRegressor(Module, ..., callbacks=[WatchCallback(run="runs/a")])``

The events answered are ``on_train_begin`` and ``on_train_end``. skorch tells its callbacks nothing
of a training that raised: the watch then ends when the callback is dropped, when another
training begins, or by ``callback.end()``.
"""

from __future__ import annotations

from typing import Any, Self

from gradreach.integrations.attachment import Attachment

__all__ = ["WatchCallback"]


class WatchCallback(Attachment):
    """Watches what ``net.fit`` and ``net.partial_fit`` train.

    Takes the keyword arguments of :func:`gradreach.watch`. Its place in the list does not
    matter: the gradient is seen before clipping and after it. The folds of a search or of a
    cross-validation in one process are trainings of their own in ``watches``.

    Example:
        >>> WatchCallback(every=10).initialize().get_params()
        {'every': 10}
    """

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **rest: Any) -> None:
        """Begin with the net's module, which exists by now."""
        self.begin(net.module_)

    def on_train_end(self, net: Any, X: Any = None, y: Any = None, **rest: Any) -> None:
        """End with the training."""
        self.end()

    # ---- what skorch and scikit-learn ask of every callback

    def initialize(self) -> Self:
        """Return the callback: it needs nothing before a training begins."""
        return self

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the options, as scikit-learn shows them."""
        return dict(self._gradreach_options)

    def set_params(self, **options: Any) -> Self:
        """Change options for the trainings to come."""
        self._gradreach_options = type(self)(
            **{**self._gradreach_options, **options}
        )._gradreach_options
        return self

    def __sklearn_clone__(self) -> Self:
        return self  # a search clones the net; what it sees belongs into the user's own object
