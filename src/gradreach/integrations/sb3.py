"""A callback for RecurrentPPO of sb3-contrib, and Stable-Baselines3's other algorithms.

``model.learn(100_000, callback=[WatchCallback(run="runs/a")])``

A list, though it is one: Stable-Baselines3 takes a single object that is not of its own class for
a function, and tells it nothing of the end.
"""

from __future__ import annotations

from typing import Any

from gradreach.integrations.attachment import Attachment

__all__ = ["WatchCallback"]


class WatchCallback(Attachment):
    """Watches what ``model.learn`` trains: the policy, by each of its updates.

    Takes the keyword arguments of :func:`gradreach.watch`. Steps are those of the policy's
    optimizer, not of the environment. Where an episode begins within a batch, RecurrentPPO
    calls its LSTMs once per step; these calls are one time axis here.

    Stable-Baselines3 tells nothing of a training that raised: the watch then ends when the
    callback is dropped, when another training begins, or by ``callback.end()``.

    Example:
        >>> WatchCallback(needs_lag=20).on_step()
        True
    """

    parent: Any = None  # where Stable-Baselines3 notes the list that a callback is in

    def init_callback(self, model: Any) -> None:
        """Note whose training it will be."""
        self._gradreach_algorithm = model

    def on_training_start(self, locals_: dict[str, Any], globals_: dict[str, Any]) -> None:
        """Begin with the policy."""
        self.begin(self._gradreach_algorithm.policy)
        del self._gradreach_algorithm  # it holds the buffers

    def on_step(self) -> bool:
        """Let the training go on, after each step of the environment."""
        return True

    def update_locals(self, locals_: dict[str, Any]) -> None:
        """Take no notice of the local variables of a rollout."""

    def on_training_end(self) -> None:
        """End with the training."""
        self.end()

    def __call__(self, locals_: dict[str, Any], globals_: dict[str, Any]) -> bool:
        """Refuse to be taken for a function.

        Raises:
            TypeError: Always; Stable-Baselines3 would not tell when the training ends.
        """
        raise TypeError(
            "learn(): argument 'callback' must be a list that contains the WatchCallback; got the "
            "WatchCallback alone: write callback=[callback]"
        )
