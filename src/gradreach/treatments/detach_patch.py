"""Asks before the user's code cuts a tensor off its graph."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from gradreach.treatments.attributes import Attributes
from gradreach.treatments.sites import PASSED_OVER, Site, site_at

__all__ = ["DetachPatch"]


class DetachPatch:
    """``Tensor.detach``, ``detach_``, ``data`` and ``torch.detach``, while started.

    Only calls that stand in the user's own frames are asked about: torch detaches all the time.
    A tensor that is on no graph has nothing to be cut from, and is not asked about either.
    """

    def __init__(self, note: Callable[[Site], None]) -> None:
        self.note = note
        self.acts: list[Callable[[Tensor, Site], bool]] = []
        self._attributes = Attributes()
        self._started = False

    def start(self) -> None:
        """Put the wrappers in place."""
        if self._started:
            return
        self._started = True
        for owner, name in ((Tensor, "detach"), (Tensor, "detach_"), (torch, "detach")):
            self._attributes.put(owner, name, self._asking(getattr(owner, name), name))
        data: Any = Tensor.data

        def read(tensor: Tensor) -> Tensor:
            frame = sys._getframe(1)
            if self._kept(tensor, frame, "data"):
                return tensor
            return data.__get__(tensor)  # type: ignore[no-any-return]

        def write(tensor: Tensor, value: Tensor) -> None:
            data.__set__(tensor, value)

        self._attributes.put(Tensor, "data", property(read, write))

    def stop(self) -> None:
        """Put torch's back."""
        self._started = False
        self._attributes.restore()

    def _asking(self, own: Callable[..., Any], name: str) -> Callable[..., Any]:
        @wraps(own)
        def detach(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            if self._kept(tensor, sys._getframe(1), name):
                return tensor
            return own(tensor, *args, **kwargs)

        return detach

    def _kept(self, tensor: Any, frame: FrameType, name: str) -> bool:
        if not isinstance(tensor, Tensor) or tensor.grad_fn is None:
            return False
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] in PASSED_OVER:
            return False
        site = site_at(frame, "detach", f"torch.Tensor.{name}")
        self.note(site)
        return any(keep(tensor, site) for keep in self.acts)
