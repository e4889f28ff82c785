"""What answers are worth: the numbers that the tasks are scored by."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["cross_entropy", "error_rate", "mean_squared_error"]


def mean_squared_error(answers: NDArray[Any], targets: NDArray[Any]) -> float:
    """Return the mean of the squared differences; both are brought to one shape.

    Example:
        >>> mean_squared_error(np.array([[1.0], [2.0]]), np.array([[1.0], [4.0]]))
        2.0
    """
    difference = answers.reshape(targets.shape).astype(np.float64) - targets
    return float(np.mean(np.square(difference)))


def error_rate(answers: NDArray[Any], targets: NDArray[Any]) -> float:
    """Return the share of classes whose score is not the largest; ties count as wrong.

    A network that answers nothing finite, or the same for all classes, is never right by
    accident of an order.

    Shape:
        answers: ``(…, O)`` scores. targets: ``(…)`` classes.

    Example:
        >>> error_rate(np.array([[0.1, 0.9], [0.5, 0.5]]), np.array([1, 0]))
        0.5
    """
    own = np.take_along_axis(answers, targets[..., None], -1)
    rivals = answers.copy()
    np.put_along_axis(rivals, targets[..., None], -np.inf, -1)
    right = own[..., 0] > rivals.max(-1)  # False where either is NaN
    return float(1.0 - right.mean())


def cross_entropy(answers: NDArray[Any], targets: NDArray[Any]) -> float:
    """Return the mean of −log softmax(answers)[target], in nats.

    Shape:
        answers: ``(…, O)`` scores. targets: ``(…)`` classes.

    Example:
        >>> round(cross_entropy(np.zeros((5, 8)), np.arange(5)), 4)  # log 8
        2.0794
    """
    scores = answers.astype(np.float64)
    scores = scores - scores.max(-1, keepdims=True)
    log_sum = np.log(np.exp(scores).sum(-1))
    own = np.take_along_axis(scores, targets[..., None], -1)[..., 0]
    return float(np.mean(log_sum - own))
