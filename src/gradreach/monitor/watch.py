"""``gradreach.watch``: attach to a training loop in two lines."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import Optimizer

from gradreach.monitor.cost import cost_named
from gradreach.monitor.folder_end import write_end
from gradreach.monitor.logging_sinks import LoggerSink
from gradreach.monitor.session import Session
from gradreach.monitor.session_options import SessionOptions
from gradreach.monitor.sinks import Sink
from gradreach.records import Finding, GradientFlow
from gradreach.records.history import History
from gradreach.runs.folder import RunFolder
from gradreach.runs.journal import JournalWriter

__all__ = ["Watch", "watch"]


def watch(
    model: nn.Module,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    *,
    run: str | os.PathLike[str] | None = None,
    every: int | None = None,
    cost: str = "standard",
    needs_lag: int | None = None,
    loggers: Iterable[Any] = (),
    block_nonfinite: bool | int = False,
) -> Watch:
    """Watch a training loop: cheap numbers of its steps, and samples of its gradient flow.

    The loop stays as it is. Weights, optimizer state and random numbers are bit for bit those
    of a run that is not watched; nothing is written to the model or the optimizer, and nothing
    that fails in here reaches the loop.

    Args:
        model: Its recurrent layers are sampled, the gradients of all its parameters counted.
        optimizer: Whose steps count; without it, every optimizer's that has a parameter of the
            model.
        run: A new folder for the record, which is written while training runs and stays
            readable when it is killed. Without it the record is kept in memory only.
        every: Sample each ``every``-th backward pass, whatever that costs.
        cost: ``"economy"`` takes at most 1 % of the time of your own work, ``"standard"`` 5 %:
            samples become rarer until that holds. ``"full"`` samples every pass.
        needs_lag: How many steps back the task must look, if you know.
        loggers: What the numbers of each step are sent to: functions ``log(numbers, step)``, or
            objects with such a method.
        block_nonfinite: Keep the optimizer from making a step with a gradient that is not
            finite, and name where that came from; after as many steps as a number says, the next
            ``optimizer.step()`` raises :class:`gradreach.NonFiniteGradientError`. It costs some
            5 % more, beside ``cost``: what the recurrent layers compute is kept for each step.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: ``every``, ``needs_lag`` or ``cost`` is none of the values that make sense.
        RunFolderError: ``run`` is no new or empty folder, or cannot be made.

    Example:
        >>> import gradreach as gr
        >>> model = nn.RNN(3, 16)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        >>> with gr.watch(model, optimizer) as watched:
        ...     for _ in range(5):
        ...         optimizer.zero_grad()
        ...         model(torch.randn(50, 4, 3))[0][-1].square().mean().backward()
        ...         optimizer.step()
        >>> len(watched.history), [finding.code for finding in watched.findings][:1]
        (5, ['vanishing-gradient'])
    """
    return Watch(
        model, optimizer, run=run, every=every, cost=cost, needs_lag=needs_lag, loggers=loggers,
        block_nonfinite=block_nonfinite,
    )  # fmt: skip


class Watch:
    """A training that is watched: from ``start()`` to ``stop()``, or for a ``with`` block.

    The arguments are those of :func:`gradreach.watch`.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Sequence[Optimizer] | None = None,
        *,
        run: str | os.PathLike[str] | None = None,
        every: int | None = None,
        cost: str = "standard",
        needs_lag: int | None = None,
        loggers: Iterable[Any] = (),
        block_nonfinite: bool | int = False,
    ) -> None:
        _check_model(model)
        self._optimizers = _checked_optimizers(optimizer)
        _check_count("every", every)
        _check_count("needs_lag", needs_lag)
        preset = cost_named(cost)
        sinks: list[Sink] = [LoggerSink(logger) for logger in _checked_loggers(loggers)]
        self._process = os.getpid()
        self._folder: RunFolder | None = None
        if run is not None and _writes_files():
            self._folder = RunFolder(_checked_path(run))
            sinks.append(JournalWriter(self._folder.path, {"needs_lag": needs_lag, "cost": cost}))
        self._session = Session(
            None,
            SessionOptions(every, needs_lag, cost=preset, **_checked_block(block_nonfinite)),
            model=model,
            relevant=self._is_relevant,
            sinks=sinks,
        )

    # ---- from start to stop

    def start(self) -> Watch:
        """Begin to watch; a watch can be started once."""
        self._quietly(self._session.start)
        return self

    def stop(self) -> None:
        """End the watch and remove every hook; a second call does nothing."""
        if os.getpid() == self._process:  # a child that was forked has none of our hooks
            self._quietly(self._end)

    def _end(self) -> None:
        if self._session.seconds is not None:
            return
        self._session.stop()
        if self._folder is not None:
            write_end(self._session, self._folder)

    def __enter__(self) -> Watch:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _quietly(self, work: Any) -> None:
        try:
            work()
        except Exception:  # noqa: BLE001  training must not end because watching it failed
            self._session.watch.guard.fail(traceback.format_exc())
            self._session.watch.stop()

    def _is_relevant(self, optimizer: Optimizer) -> bool:
        if self._optimizers is not None:
            return any(optimizer is each for each in self._optimizers)
        return self._session.parameters.moved_by(optimizer)

    # ---- what was seen

    @property
    def history(self) -> History:
        """The record so far."""
        return self._session.history()

    @property
    def findings(self) -> list[Finding]:
        """What is wrong, the gravest first, as far as it has been seen."""
        return self._session.findings()

    @property
    def flows(self) -> list[tuple[int, GradientFlow]]:
        """The first and the latest sample in full, each with its step."""
        return list(self._session.flows)

    @property
    def overhead(self) -> float:
        """Time that watching has taken, as a share of the time of the user's own work."""
        return self._session.overhead

    @property
    def trouble(self) -> str | None:
        """Traceback of the failure of ours that ended the watch, or ``None``."""
        return self._session.watch.fault or self._session.trouble

    @property
    def notes(self) -> list[str]:
        """Sentences on how it was watched, what could not be, and what failed."""
        return self._session.notes()

    def report(self, path: str | os.PathLike[str]) -> None:
        """Write the report, one HTML file that opens offline.

        Raises:
            WriteError: The file cannot be written.
        """
        self._session.report(Path(path))

    def __repr__(self) -> str:
        session = self._session
        state = "running" if session.seconds is None else "ended"
        return (
            f"<Watch {state}: {session.rows.steps} steps, {session.watch.samples} samples, "
            f"{100 * session.overhead:.1f} % overhead>"
        )


def _check_model(model: Any) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"watch(): argument 'model' must be a torch.nn.Module; got {type(model).__name__}"
            + (": give the model first" if isinstance(model, Optimizer) else "")
        )


def _checked_optimizers(given: Any) -> tuple[Optimizer, ...] | None:
    """Return the optimizers whose steps count; ``None`` for all."""
    if given is None:
        return None
    several = tuple(given) if isinstance(given, list | tuple) else (given,)
    wrapped = tuple(getattr(each, "optimizer", each) for each in several)  # accelerate and others
    for each in wrapped:
        if not isinstance(each, Optimizer):
            raise TypeError(
                "watch(): argument 'optimizer' must be a torch optimizer or a list of them; got "
                f"{type(each).__name__}: leave it out to watch every optimizer of the model"
            )
    return wrapped


def _checked_loggers(given: Any) -> list[Any]:
    if not isinstance(given, Iterable) or isinstance(given, str):
        raise TypeError(
            f"watch(): argument 'loggers' must be a list of loggers; got {type(given).__name__}: "
            "put it in brackets"
        )
    return list(given)


def _writes_files() -> bool:
    """Whether this process writes the record: of a distributed run the first one does."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return bool(distributed.get_rank() == 0)
    return os.environ.get("RANK", "0") == "0"  # as torchrun sets it, before any group is made


def _checked_path(run: Any) -> Path:
    if not isinstance(run, str | os.PathLike) or not os.fspath(run):
        raise TypeError(
            f"watch(): argument 'run' must be the path of a folder; got {run!r}: leave it out to "
            "keep the record in memory"
        )
    return Path(run).absolute()  # it must not follow a script that changes its working directory


def _checked_block(given: Any) -> dict[str, Any]:
    """Return the options that ``block_nonfinite`` stands for."""
    if isinstance(given, bool):
        return {"block": given}
    if not (isinstance(given, int) and given >= 1):
        raise ValueError(
            "watch(): argument 'block_nonfinite' must be True, False or a whole number, 1 or more; "
            f"got {given!r}: a number is how many steps are blocked before the next one raises"
        )
    return {"block": True, "blocked": given}


def _check_count(name: str, value: Any) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if value is not None and not (whole and value >= 1):
        raise ValueError(
            f"watch(): argument '{name}' must be a whole number, 1 or more; got {value!r}: leave "
            "it out for the default"
        )
