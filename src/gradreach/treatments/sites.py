"""Where in the user's source something was built or called: the exact span of the expression."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

__all__ = ["Site", "builder_of", "caller", "script_file", "site_at"]

PASSED_OVER = ("torch", "gradreach")  # frames of these are never the place that the user changes


@dataclass(frozen=True, slots=True)
class Site:
    """An expression of the user's source that an interception met.

    Attributes:
        kind: ``"layer"``, ``"optimizer"``, ``"backward"``, ``"detach"``; treatments add others.
        what: What was met, by its qualified name: ``torch.nn.RNN``, ``torch.optim.Adam``.
        file: Path of the source file; ``""`` where there is none.
        line: First line of the expression, from 1.
        column: Where it begins, in UTF-8 bytes from 0, as Python's own ``ast`` counts.
        end_line: Last line. end_column: Its end there, exclusive.
        function: Qualified name of the function it stands in.
        left: Why a treatment left it as it was; ``""`` where none did.
        numbers: What is known of it, as plain data: the arguments of a layer, the learning rate.
        outer: The innermost expression in a file of the user's own, where ``file`` is a library's.
    """

    kind: str
    what: str
    file: str
    line: int
    column: int
    end_line: int
    end_column: int
    function: str
    left: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    outer: Site | None = None

    @property
    def span(self) -> tuple[str, int, int, int, int]:
        """What tells two places apart."""
        return (self.file, self.line, self.column, self.end_line, self.end_column)

    def to_dict(self) -> dict[str, Any]:
        """Return the site as plain data."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        plain["numbers"] = dict(self.numbers)
        plain["outer"] = None if self.outer is None else self.outer.to_dict()
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Site:
        """Undo :meth:`to_dict`."""
        outer = plain["outer"]
        return cls(**{**plain, "outer": None if outer is None else cls.from_dict(outer)})


def caller(depth: int = 1) -> FrameType | None:
    """Return the first frame outside torch and gradreach, from ``depth`` frames above."""
    try:
        frame: FrameType | None = sys._getframe(depth + 1)
    except ValueError:
        return None
    while frame is not None and _passed_over(frame):
        frame = frame.f_back
    return frame


def builder_of(made: object, depth: int = 1) -> FrameType | None:
    """Return the frame that called for an object under construction, from ``depth`` frames above.

    A subclass's own constructor is passed over: the place is where that is called.
    """
    frame = caller(depth + 1)
    while frame is not None and _constructs(frame, made):
        frame = frame.f_back
    return frame


def site_at(
    frame: FrameType | None,
    kind: str,
    what: str,
    *,
    left: str = "",
    numbers: Mapping[str, Any] | None = None,
) -> Site:
    """Return the site of the expression that a frame is evaluating.

    Example:
        >>> def here():
        ...     return site_at(sys._getframe(), "layer", "torch.nn.RNN")
        >>> here().function, here().kind
        ('here', 'layer')
    """
    own = frame
    while own is not None and not _is_own(own.f_code.co_filename):
        own = own.f_back
    outer = None
    if own is not None and own is not frame:
        outer = Site(kind, what, *_span(own), own.f_code.co_qualname)
    if frame is None:
        return Site(kind, what, "", 0, 0, 0, 0, "", left, numbers or {}, outer)
    place = _span(frame)
    return Site(kind, what, *place, frame.f_code.co_qualname, left, numbers or {}, outer)


def script_file() -> str:
    """Return the path of the script that this process runs; empty where there is none."""
    return str(getattr(sys.modules.get("__main__"), "__file__", "") or "")


def _constructs(frame: FrameType, made: object) -> bool:
    code = frame.f_code
    first = code.co_varnames[0] if code.co_argcount else ""
    return code.co_name == "__init__" and frame.f_locals.get(first) is made


def _passed_over(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] in PASSED_OVER


def _span(frame: FrameType) -> tuple[str, int, int, int, int]:
    code, at = frame.f_code, frame.f_lasti // 2
    line, end_line, column, end_column = _positions(code)[at]
    if line is None or end_line is None or column is None or end_column is None:
        return code.co_filename, frame.f_lineno, 0, frame.f_lineno, 0
    return code.co_filename, line, column, end_line, end_column


@cache
def _positions(code: CodeType) -> list[tuple[int | None, int | None, int | None, int | None]]:
    return list(code.co_positions())


@cache
def _is_own(file: str) -> bool:
    """Whether a file is one that the user would change: no library, no generated code."""
    if file.startswith("<"):
        return False
    path = Path(file).resolve()
    paths = sysconfig.get_paths()
    libraries = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    if "site-packages" in path.parts or "dist-packages" in path.parts:
        return False
    return not any(path.is_relative_to(Path(each).resolve()) for each in libraries)
