"""Attributes of classes and modules, replaced for a while."""

from __future__ import annotations

from typing import Any

__all__ = ["Attributes"]

_ABSENT = object()


class Attributes:
    """Replaces attributes and puts back exactly what was there, inherited ones included.

    One that somebody has replaced in turn stays: taking it away would take theirs.

    Example:
        >>> class Mine: ...
        >>> replaced = Attributes()
        >>> replaced.put(Mine, "x", 1)
        >>> Mine.x
        1
        >>> replaced.restore()
        >>> hasattr(Mine, "x")
        False
    """

    def __init__(self) -> None:
        self._kept: list[tuple[Any, str, Any, Any]] = []

    def put(self, owner: Any, name: str, value: Any) -> None:
        """Replace one attribute."""
        before = vars(owner).get(name, _ABSENT)
        setattr(owner, name, value)
        self._kept.append((owner, name, before, vars(owner)[name]))

    def restore(self) -> None:
        """Put all back, the last first."""
        while self._kept:
            owner, name, before, ours = self._kept.pop()
            if vars(owner).get(name, _ABSENT) is not ours:
                continue
            if before is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, before)
