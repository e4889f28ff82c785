"""Passes the constructors of torch's recurrent classes through the treatments."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from types import FrameType
from typing import Any

from gradreach import nn
from gradreach.treatments.attributes import Attributes
from gradreach.treatments.layer_call import TORCH_CLASSES, LayerCall
from gradreach.treatments.sites import Site, builder_of, script_file, site_at

__all__ = ["LayerPatch"]

# Layers that gradreach itself builds to measure or convert others are none of the user's.
MACHINERY = tuple(
    f"gradreach.{part}." for part in ("nn", "flow", "kernels", "monitor", "treatments.layer_call")
)


class LayerPatch:
    """The constructors of the six classes, and of gradreach's, while started.

    The class of the fresh instance is changed and the other class's constructor run on it, so
    that ``from torch.nn import RNN``, done before or after, ``isinstance`` and the random numbers
    drawn are all as if the user had written the other class.
    """

    def __init__(self, note: Callable[[Site], None]) -> None:
        self.note = note
        self.rewrites: list[Callable[[LayerCall], LayerCall | None]] = []
        self.built: list[Callable[[Any], None]] = []
        self._attributes = Attributes()

    def start(self) -> None:
        """Put the constructors in place."""
        for torch_class in TORCH_CLASSES:
            own = torch_class.__init__  # type: ignore[misc]
            self._attributes.put(torch_class, "__init__", self._constructor(torch_class, own))
        for torch_class in TORCH_CLASSES:
            ours = getattr(nn, torch_class.__name__)
            noting = self._noting(torch_class, ours.__init__)
            self._attributes.put(ours, "__init__", noting)

    def stop(self) -> None:
        """Put torch's back."""
        self._attributes.restore()

    def _constructor(self, torch_class: type, own: Callable[..., None]) -> Callable[..., None]:
        @wraps(own)
        def constructor(module: Any, *args: Any, **kwargs: Any) -> None:
            frame = sys._getframe(1)
            if _is_machinery(frame):
                own(module, *args, **kwargs)
                return
            left = _why_left(module, torch_class)
            call = None if left else self._rewritten(torch_class, args, kwargs)
            self._noted(module, torch_class, args, kwargs, left)
            if call is None:
                own(module, *args, **kwargs)
            else:
                call.build(module)
            for act in () if left else self.built:
                act(module)

        return constructor

    def _noting(self, torch_class: type, own: Callable[..., None]) -> Callable[..., None]:
        """Return a constructor of ours that is reported: its remedies are the user's choice."""

        @wraps(own)
        def constructor(module: Any, *args: Any, **kwargs: Any) -> None:
            if _is_machinery(sys._getframe(1)):
                own(module, *args, **kwargs)
                return
            known = LayerCall.names_of(torch_class)
            plain = {name: value for name, value in kwargs.items() if name in known}
            self._noted(module, torch_class, args, plain, _why_left(module, torch_class))
            own(module, *args, **kwargs)
            # It is what a patch has written, whose other half may act on the layers built.
            for act in self.built if _is_ours(module) else ():
                act(module)

        return constructor

    def _rewritten(
        self, torch_class: type, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> LayerCall | None:
        """Return the call as the treatments leave it; ``None`` where they leave it alone."""
        try:
            call = given = LayerCall.of(torch_class, args, kwargs)
        except TypeError:
            return None  # torch says what is wrong with it, in its own words
        for rewrite in self.rewrites:
            call = rewrite(call) or call
        return None if call == given else call

    def _noted(
        self, module: Any, torch_class: type, args: Any, kwargs: dict[str, Any], left: str
    ) -> None:
        try:
            numbers = _plain(LayerCall.of(torch_class, args, kwargs).arguments)
        except TypeError:
            return
        frame = builder_of(module, 2)
        numbers |= {"class": _name_of(type(module)), "script": script_file()}
        name = f"torch.nn.{torch_class.__name__}"
        self.note(site_at(frame, "layer", name, left=left, numbers=numbers))


def _why_left(module: Any, torch_class: type) -> str:
    """Say why no treatment touches this instance; ``""`` where one may."""
    if type(module) is torch_class:
        return ""
    if _is_ours(module):
        return f"{_name_of(type(module))} has the remedies built in: change its own arguments"
    return f"of class {_name_of(type(module))}, whose own code would be lost"


def _is_ours(module: Any) -> bool:
    return type(module).__module__.startswith("gradreach.nn.")


def _is_machinery(frame: FrameType) -> bool:
    return f"{frame.f_globals.get('__name__', '')}.".startswith(MACHINERY)


def _name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _plain(arguments: Any) -> dict[str, Any]:
    """Return the arguments as plain data."""
    return {
        name: value if isinstance(value, int | float | str | bool | None) else str(value)
        for name, value in arguments.items()
    }
