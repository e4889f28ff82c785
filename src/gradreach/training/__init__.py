"""The training loop of gradreach's own tasks, for trainings of anybody's.

Example:
    >>> import gradreach as gr
    >>> gr.Training is Training
    True
"""

from __future__ import annotations

from gradreach.training.loop import Evaluation, Trained, Training, supervised

__all__ = ["Evaluation", "Trained", "Training", "supervised"]
