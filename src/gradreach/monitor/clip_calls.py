"""Sees the calls of torch's gradient clipping, by whatever name they are made."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import wraps
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from gradreach.monitor.guard import Guard
from gradreach.monitor.names import transformed

__all__ = ["ClipCalls", "ClipRow"]

# The module, not the functions: `from torch.nn.utils import clip_grad_norm_` keeps the function
# itself, which looks up its own helpers here each time it runs. Same names from 2.6 to 2.13.
MODULE: Any = sys.modules["torch.nn.utils.clip_grad"]
SCALES = "_clip_grads_with_norm_"  # called by clip_grad_norm_, also without any gradient
GROUPS = "_group_tensors_by_device_and_dtype"  # called by all that clips, with the gradients
VALUE = "clip_grad_value_"  # whose frame tells its threshold


@dataclass(frozen=True)
class ClipRow:
    """What was clipped for one optimizer step.

    Args:
        calls: Number of calls; the rest is said of the last of them.
        threshold: What it was given. seen: the norm, or the largest entry, that it saw.
        order: A key of :data:`gradreach.records.history.CLIP_ORDERS`.
        kind: ``"norm"`` or ``"value"``; ``""`` where there was no call.

    Example:
        >>> ClipRow()
        ClipRow(calls=0, threshold=nan, seen=nan, order=0, kind='')
    """

    calls: int = 0
    threshold: float = float("nan")
    seen: float = float("nan")
    order: int = 0
    kind: str = ""


@dataclass(frozen=True)
class _Call:
    kind: str
    threshold: float
    seen: Tensor | None  # read when the row is made: on a GPU that waits for it
    passes: int  # backward passes of this step so far
    scaled: bool


class ClipCalls:
    """Replaces two helpers of ``torch.nn.utils.clip_grad`` while started.

    Seen is all that goes through torch's functions: also what Lightning, accelerate and the
    Trainer call. Clipping by hand, and that of sharded models, is not.

    Args:
        guard: Runs what is ours.
        scaled: Whether some of these gradients are multiplied by a scaler's factor.
        watched: The parameters that count; ``None`` counts all.

    Cost:
        Microseconds a call; for ``clip_grad_value_`` one more pass over the gradients.

    Example:
        >>> from torch.nn.utils import clip_grad_norm_
        >>> weight = torch.ones(4, requires_grad=True)
        >>> clips = ClipCalls(Guard(on_fault=lambda: None))
        >>> clips.start()
        >>> (3 * weight).sum().backward()
        >>> clips.passed()
        >>> clip_grad_norm_([weight], max_norm=2.0)
        tensor(6.)
        >>> clips.taken()
        ClipRow(calls=1, threshold=2.0, seen=6.0, order=1, kind='norm')
        >>> clips.stop()
    """

    def __init__(
        self,
        guard: Guard,
        scaled: Callable[[Sequence[Tensor]], bool] | None = None,
        watched: Callable[[], Iterable[Tensor]] | None = None,
    ) -> None:
        self.guard, self.scaled, self.watched = guard, scaled, watched
        self._calls: list[_Call] = []
        self._passes = 0
        self._within = False  # our own note of the call that is running is already taken
        self._own: dict[str, Callable[..., Any]] = {}
        self._ours: dict[str, Callable[..., Any]] = {}

    def start(self) -> None:
        """Put the wrappers in place."""
        for name, wrap in ((SCALES, self._scales), (GROUPS, self._groups)):
            own = getattr(MODULE, name, None)
            if own is not None:
                self._own[name], self._ours[name] = own, wrap(own)
                setattr(MODULE, name, self._ours[name])

    def stop(self) -> None:
        """Take them away; one that somebody has wrapped in turn stays, and only passes on."""
        for name, ours in self._ours.items():
            if getattr(MODULE, name) is ours:
                setattr(MODULE, name, self._own[name])
        self._own, self._ours = {}, {}
        self._calls.clear()
        self.scaled = self.watched = None

    def passed(self) -> None:
        """Note that a backward pass has ended."""
        self._passes += 1

    def taken(self) -> ClipRow:
        """Return what was clipped since the step before, now that another is taken."""
        calls, passes = self._calls, self._passes
        self._calls, self._passes = [], 0
        if not calls:
            return ClipRow()
        last = calls[-1]
        # A pass of this step after the clip, and none before: it had no gradient of this step.
        order = 2 if not last.passes and passes else 3 if last.scaled else 1
        seen = float("nan") if last.seen is None else float(last.seen)
        return ClipRow(len(calls), last.threshold, seen, order, last.kind)

    # ---- the wrappers

    def _scales(self, own: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(own)
        def clip(*args: Any, **options: Any) -> Any:
            if not self._ours or transformed():
                return own(*args, **options)
            self.guard(self._note_norm, args, options)
            self._within = True
            try:
                return own(*args, **options)
            finally:
                self._within = False

        return clip

    def _groups(self, own: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(own)
        def group(*args: Any, **options: Any) -> Any:
            if self._ours and not self._within and not transformed():
                self.guard(self._note_group, sys._getframe(1), args)
            return own(*args, **options)

        return group

    def _note_norm(self, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        given = dict(zip(("parameters", "max_norm", "total_norm"), args, strict=False)) | options
        parameters = given["parameters"]
        if not isinstance(parameters, Tensor | list | tuple):
            return  # a generator, of a caller we do not know: ours to leave as it is
        own = [parameters] if isinstance(parameters, Tensor) else list(parameters)
        if self.watched is not None and not _common(own, self.watched()):
            return
        gradients = [p.grad for p in own if p.grad is not None]
        self._note("norm", given["max_norm"], given["total_norm"], gradients)

    def _note_group(self, frame: FrameType, args: tuple[Any, ...]) -> None:
        """Note a call that is known by who asked for the groups: what it was given is there."""
        name, local = frame.f_code.co_name, frame.f_locals
        if name not in (SCALES, VALUE):
            return  # the norm is only taken
        gradients: list[Tensor] = args[0][0]
        if self.watched is not None:
            watched = [p.grad for p in self.watched() if p.grad is not None]
            if not _common(gradients, watched):
                return
        if name == SCALES:
            self._note("norm", local["max_norm"], local["total_norm"], gradients)
            return
        self._note("value", local["clip_value"], _largest(gradients), gradients)

    def _note(self, kind: str, threshold: Any, seen: Any, gradients: list[Tensor]) -> None:
        if math.isinf(float(threshold)):
            return  # asks for the norm alone, as Hugging Face's Trainer does with clipping off
        scaled = bool(gradients) and self.scaled is not None and self.scaled(gradients)
        # A copy: the caller is given this very tensor, and may change it.
        kept = seen.detach().clone() if isinstance(seen, Tensor) else None
        if kept is None and seen is not None:
            kept = torch.tensor(float(seen))
        self._calls.append(_Call(kind, float(threshold), kept, self._passes, scaled))


def _common(some: Iterable[Tensor], others: Iterable[Tensor]) -> bool:
    """Whether a tensor is among both."""
    return not {id(each) for each in some}.isdisjoint(id(each) for each in others)


def _largest(gradients: Iterable[Tensor]) -> Tensor | None:
    """Return the largest absolute entry; ``None`` where there is no entry."""
    values = [g.detach().coalesce().values() if g.is_sparse else g.detach() for g in gradients]
    each = [value.abs().amax() for value in values if value.numel()]
    return torch.stack([one.to(each[0].device).double() for one in each]).amax() if each else None
