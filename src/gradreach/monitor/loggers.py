"""Experiment trackers through one shape, ``log(numbers, step)``, importing none of them."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["Log", "SafeLog", "as_logger"]

Log = Callable[[Mapping[str, float], int], object]

STEP = "gradreach/step"
FAILURES = 3  # in a row, and it is not asked again: a tracker that is down costs seconds a call


class SafeLog:
    """A destination that never disturbs the training it is told about.

    Attributes:
        trouble: Traceback of its first failure; ``None`` while there is none.
        off: Whether it failed too often and is left alone.

    Example:
        >>> log = SafeLog(lambda numbers, step: 1 / 0)
        >>> for step in range(5):
        ...     log({"loss": 1.0}, step)
        >>> log.off, log.trouble.splitlines()[-1]
        (True, 'ZeroDivisionError: division by zero')
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._failed = 0
        self.trouble: str | None = None
        self.off = False

    def __call__(self, numbers: Mapping[str, float], step: int) -> None:
        """Pass numbers on."""
        if self.off:
            return
        try:
            self._log(numbers, step)
        except Exception:  # noqa: BLE001  a tracker's failure is no reason to lose a training
            self._failed += 1
            self.trouble = self.trouble or traceback.format_exc()
            self.off = self._failed >= FAILURES
        else:
            self._failed = 0


def as_logger(
    destination: Any, *, run_id: str | None = None, rows_of_its_own: bool = False
) -> SafeLog:
    """Make anything that takes numbers a destination for ``gradreach.watch(loggers=…)``.

    Known by what they can do, so that nothing is imported: TensorBoard's ``SummaryWriter``
    (``add_scalar``), MLflow as module and Lightning's loggers (``log_metrics``), MLflow's client
    with a ``run_id``, a W&B run (``define_metric``), Lightning Fabric (``log_dict``), trackio,
    accelerate and whatever else has ``log(numbers, step=…)``, and plain functions of
    ``(numbers, step)``.

    Args:
        destination: The tracker.
        run_id: Of the run to log to, where the destination is MLflow's client.
        rows_of_its_own: For W&B, whose steps may only grow. By default the numbers wait for the
            next row that you log yourself and come with it, so that no row of yours is ever
            refused for our sake; numbers between two of your rows are not seen there. ``True``
            writes a row for each call: for runs to which you log nothing, or without ``step=``.

    Raises:
        TypeError: It is none of these.

    Example:
        >>> seen = []
        >>> log = as_logger(lambda numbers, step: seen.append((step, numbers)))
        >>> log({"gradreach/loss": 0.5}, 3)
        >>> seen
        [(3, {'gradreach/loss': 0.5})]
    """
    if isinstance(destination, SafeLog):
        return destination
    if hasattr(destination, "add_scalar"):
        return SafeLog(_one_by_one(destination.add_scalar))
    if hasattr(destination, "log_metrics"):
        return SafeLog(lambda numbers, step: destination.log_metrics(dict(numbers), step=step))
    if hasattr(destination, "log_batch") and hasattr(destination, "log_metric"):
        return SafeLog(_mlflow_client(destination, run_id))
    if hasattr(destination, "define_metric") and hasattr(destination, "log"):
        return SafeLog(_weights_and_biases(destination, rows_of_its_own))
    for name in ("log_dict", "log"):
        method = getattr(destination, name, None)
        if callable(method) and _takes_step(method):
            return SafeLog(_with_step(method))
    if callable(destination) and not isinstance(destination, type):
        return SafeLog(destination)
    raise TypeError(
        "as_logger(): argument 'destination' must be a tracker that has add_scalar, log_metrics "
        f"or log(numbers, step=…), or a function of (numbers, step); got {_kind(destination)}: "
        "pass a function that hands them on"
    )


def _one_by_one(add_scalar: Callable[..., object]) -> Log:
    def log(numbers: Mapping[str, float], step: int) -> None:
        for name, value in numbers.items():
            add_scalar(name, value, step)

    return log


def _with_step(method: Callable[..., object]) -> Log:
    return lambda numbers, step: method(dict(numbers), step=step)


def _mlflow_client(client: Any, run_id: str | None) -> Log:
    if run_id is None:
        raise TypeError(
            "as_logger(): argument 'run_id' must name the run to log to where the destination is "
            "an MLflow client; got None: pass run_id=run.info.run_id"
        )

    def log(numbers: Mapping[str, float], step: int) -> None:
        for name, value in numbers.items():
            client.log_metric(run_id, name, value, step=step)

    return log


def _weights_and_biases(run: Any, rows_of_its_own: bool) -> Log:
    """Log over a step of our own: W&B drops every row whose ``step=`` is below the last one."""
    defined = False

    def log(numbers: Mapping[str, float], step: int) -> None:
        nonlocal defined
        if not defined:
            run.define_metric(STEP, hidden=True)
            run.define_metric("gradreach/*", step_metric=STEP)
            defined = True
        run.log({**numbers, STEP: step}, commit=rows_of_its_own)

    return log


def _takes_step(method: Callable[..., object]) -> bool:
    """Whether it can be called as ``method(numbers, step=…)``."""
    try:
        inspect.signature(method).bind({}, step=0)
    except TypeError:
        return False
    except ValueError:  # written in C, without a signature
        return True
    return True


def _kind(thing: object) -> str:
    return f"the class {thing.__name__}" if isinstance(thing, type) else type(thing).__name__
