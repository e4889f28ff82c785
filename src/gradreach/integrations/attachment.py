"""What the callbacks of all frameworks share: a watch that a framework starts and stops."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self, TypedDict, Unpack

from torch import nn

from gradreach.monitor.loggers import as_logger
from gradreach.monitor.watch import Watch, watch
from gradreach.records import Finding, GradientFlow
from gradreach.records.history import History

__all__ = ["Attachment", "WatchOptions"]


class WatchOptions(TypedDict, total=False):
    """The keyword arguments of :func:`gradreach.watch`, which every adapter takes."""

    run: str | os.PathLike[str] | None
    every: int | None
    cost: str
    needs_lag: int | None
    loggers: Iterable[Any]
    block_nonfinite: bool | int


class Attachment:
    """A callback that starts a watch when training begins and stops it when that ends.

    What is seen comes from torch's own hooks, so neither the place of the callback among
    others nor what the framework tells its callbacks matters.

    Frameworks copy callbacks, and write attributes of their own into them. A copy of this one
    is itself, so that the object in your hand is the one that was used; its attributes bear a
    prefix. A second training makes a second watch, whose run folder is ``<run>-2``.

    Args:
        options: As :func:`gradreach.watch` takes them. Wrong ones are told here, not when the
            training begins.

    Example:
        >>> import copy, torch
        >>> attachment = Attachment(cost="economy")
        >>> copy.deepcopy([attachment])[0] is attachment
        True
        >>> attachment.begin(torch.nn.GRU(3, 4))
        >>> attachment.end()
        >>> len(attachment.watches), len(attachment.history)
        (1, 0)
    """

    def __init__(self, **options: Unpack[WatchOptions]) -> None:
        unknown = options.keys() - WatchOptions.__annotations__
        if unknown:
            raise TypeError(
                f"{type(self).__name__}(): unknown argument {sorted(unknown)[0]!r}; it takes "
                f"those of gradreach.watch: {', '.join(WatchOptions.__annotations__)}"
            )
        self._gradreach_options = options
        self._gradreach_watches: list[Watch] = []
        self._gradreach_finalizer: weakref.finalize[..., Any] | None = None
        checked: dict[str, Any] = {**options, "run": None}
        if isinstance(options.get("loggers"), str):
            checked["loggers"] = ()  # a word for loggers that the framework will bring
        watch(nn.Identity(), **checked)

    # ---- for the adapters

    def begin(
        self,
        model: nn.Module,
        *,
        first_rank: bool = True,
        first_step: int = 0,
        loggers: Iterable[Any] = (),
    ) -> None:
        """Start a watch.

        Args:
            model: Whose training is about to begin.
            first_rank: Whether this process is the one that writes; the others watch as well,
                or a step would be blocked on one of them only.
            first_step: Steps that the framework has counted before: loggers are told its own
                numbers, as a training that was taken up again goes on in their curves.
            loggers: Those of the framework, where the user has asked for them by a word.
        """
        self.end()  # the training before has failed without a word
        options: dict[str, Any] = {**self._gradreach_options, "run": self._next_folder()}
        given = options.get("loggers", ())
        given = loggers if isinstance(given, str) else given
        options["loggers"] = [_counting_from(first_step, logger) for logger in given]
        if not first_rank:
            options |= {"run": None, "loggers": ()}
        started = watch(model, **options)
        started.start()
        self._gradreach_watches.append(started)
        # Where a training ends without a call of ours, the hooks go with this object.
        self._gradreach_finalizer = weakref.finalize(self, started.stop)

    def end(self) -> None:
        """Stop the watch, if one runs."""
        if self._gradreach_finalizer is not None:
            self._gradreach_finalizer()
            self._gradreach_finalizer = None

    def _next_folder(self) -> Path | None:
        run, count = self._gradreach_options.get("run"), len(self._gradreach_watches) + 1
        if run is None:
            return None
        folder = Path(run)
        return folder if count == 1 else folder.with_name(f"{folder.name}-{count}")

    # ---- for the user

    @property
    def watches(self) -> list[Watch]:
        """One watch for each training so far, the latest last."""
        return list(self._gradreach_watches)

    @property
    def watch(self) -> Watch:
        """The watch of the latest training.

        Raises:
            RuntimeError: No training has begun.
        """
        if not self._gradreach_watches:
            raise RuntimeError(
                f"{type(self).__name__}.watch: no training has begun with this callback: hand it "
                "to the framework first"
            )
        return self._gradreach_watches[-1]

    @property
    def history(self) -> History:
        """The record of the latest training so far."""
        return self.watch.history

    @property
    def findings(self) -> list[Finding]:
        """What is wrong, the gravest first."""
        return self.watch.findings

    @property
    def flows(self) -> list[tuple[int, GradientFlow]]:
        """The first and the latest sample in full, each with its step."""
        return self.watch.flows

    @property
    def overhead(self) -> float:
        """Time that watching has taken, as a share of the time of the training itself."""
        return self.watch.overhead

    @property
    def trouble(self) -> str | None:
        """Traceback of the failure of ours that ended the watch, or ``None``."""
        return self.watch.trouble

    def report(self, path: str | os.PathLike[str]) -> None:
        """Write the report of the latest training, one HTML file that opens offline."""
        self.watch.report(path)

    # ---- copies

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Leave the watches behind: another process, or a file, gets the options only."""
        return {"_gradreach_options": self._gradreach_options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._gradreach_options = state["_gradreach_options"]
        self._gradreach_watches, self._gradreach_finalizer = [], None

    def __getattr__(self, name: str) -> Any:
        """Answer every other event of a framework, also those of versions to come."""
        if name.startswith("on_"):
            return _nothing
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


def _counting_from(first: int, logger: Any) -> Any:
    """Return a logger that adds to the number of each step."""
    if not first:
        return logger
    log = as_logger(logger)
    return lambda numbers, step: log(numbers, first + step)


def _nothing(*args: Any, **kwargs: Any) -> None:
    """Let an event pass."""
