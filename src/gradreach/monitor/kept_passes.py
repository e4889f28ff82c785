"""Keeps what the recurrent layers computed since the last optimizer step, to look at if need be."""

from __future__ import annotations

from typing import Any

from torch import nn

from gradreach.flow.sources.calls import RecordedCall
from gradreach.monitor.guard import Guard
from gradreach.monitor.hidden_hooks import HiddenHooks
from gradreach.monitor.names_of import NamesOf
from gradreach.monitor.nonfinite_place import Found, found_in
from gradreach.monitor.recording import ScriptRecorder

__all__ = ["KeptPasses"]


class _Recorder(ScriptRecorder):
    """Forgets what belongs to a step that has been made, when the next one begins."""

    stale = False

    def _enter_call(self, *given: Any) -> None:
        if self.stale:
            self.stale = False
            self.keep_unreached()
        super()._enter_call(*given)


class KeptPasses:
    """Records every pass of a model's recurrent layers, and analyses none.

    The step that blows up is seldom one that was going to be sampled, and cannot be had again.

    Args:
        model: Whose recurrent layers are recorded.
        guard: Runs what is ours.

    Cost:
        A copy of the inputs, outputs and states of the recurrent layers and of the gradients that
        arrive there, until the pass after their optimizer step, and two hooks on every module
        call: 5 to 8 % of a training step in CPU time (T = 200, B = 16, H = 128, one thread).

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.GRU(2, 3))
        >>> kept = KeptPasses(model, Guard(on_fault=lambda: None))
        >>> kept.start()
        >>> for _ in range(2):
        ...     model(torch.randn(4, 1, 2))[0].sum().backward()
        >>> [call.name for call in kept.calls()]
        ['0', '0']
        >>> kept.stepped()
        >>> model(torch.randn(4, 1, 2))[0].sum().backward()
        >>> len(kept.calls())
        1
        >>> kept.stop()
    """

    def __init__(self, model: nn.Module, guard: Guard) -> None:
        self._names = NamesOf(model, guard)
        self._recorder = _Recorder(self._names, guard)
        self._hidden = HiddenHooks()
        self._looked: list[int] = []
        self._found: list[Found] = []

    def start(self) -> None:
        """Begin to record."""
        self._names.start()
        self._recorder.__enter__()
        self._hidden.start(self._recorder.handles)

    def stop(self) -> None:
        """Record no more, and keep nothing."""
        self._hidden.stop()
        self._recorder.close()
        self._recorder.calls.clear()
        self._looked, self._found = [], []

    def calls(self) -> list[RecordedCall]:
        """Return what was recorded for the step to come, or that has just been made."""
        return list(self._recorder.calls)

    def found(self) -> list[Found]:
        """Return where the layers met a value that is not finite, each its first."""
        calls = self.calls()
        marks = [*map(id, calls)]
        if self._looked != marks:  # a second optimizer may ask of the same passes
            self._looked, self._found = marks, found_in(calls)
        return self._found

    def stepped(self) -> None:
        """An optimizer has stepped; another may go on with the same gradients."""
        self._recorder.stale = True
        self._names.start()  # for a layer that was added since
