"""The training loop of gradreach's own tasks, for trainings of anybody's.

The smallest network is trained without torch: the names below are fetched on first use.

Example:
    >>> import gradreach as gr
    >>> from gradreach.training import Training
    >>> gr.Training is Training
    True
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradreach.training.loop import Evaluation as Evaluation
    from gradreach.training.loop import Trained as Trained
    from gradreach.training.loop import Training as Training
    from gradreach.training.loop import supervised as supervised

__all__ = ["Evaluation", "Trained", "Training", "supervised"]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module 'gradreach.training' has no attribute {name!r}")
        from gradreach.training import loop

        return getattr(loop, name)
