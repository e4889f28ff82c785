"""Finds numbers in what a script prints."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any, TextIO

__all__ = ["Printed"]

LONGEST = 65536  # characters of a line that are looked at


class Printed:
    r"""Looks at each line that goes to standard output or error for a pattern's first group.

    Everything is passed on. What C code or child processes write is not seen.

    Args:
        pattern: With one group at least, which holds a number.
        steps: Returns the optimizer steps made so far.

    Attributes:
        found: ``(step, number)`` of each match.

    Example:
        >>> printed = Printed(r"accuracy (\S+)", lambda: 7)
        >>> with printed:
        ...     print("accuracy 0.5, accuracy 0.75 %")
        accuracy 0.5, accuracy 0.75 %
        >>> printed.found
        [(7, 0.5), (7, 0.75)]
    """

    def __init__(self, pattern: str, steps: Callable[[], int]) -> None:
        self.pattern, self.steps = re.compile(pattern), steps
        self.found: list[tuple[int, float]] = []
        self._before: tuple[Any, Any] | None = None
        self._listening: list[_Listening] = []

    def __enter__(self) -> Printed:
        self._before = (sys.stdout, sys.stderr)
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is not None:
                self._listening.append(_Listening(stream, self._line))
                setattr(sys, name, self._listening[-1])
        return self

    def __exit__(self, *error: object) -> None:
        for each in self._listening:
            each.end()
        if self._before is not None:
            sys.stdout, sys.stderr = self._before

    def _line(self, line: str) -> None:
        for match in self.pattern.finditer(line[:LONGEST]):
            number = _number(match.group(1))
            if number is not None:
                self.found.append((self.steps(), number))


class _Listening:
    """A text stream that shows each line to somebody, and else is the stream it stands for."""

    def __init__(self, stream: TextIO, on_line: Callable[[str], None]) -> None:
        self._stream, self._on_line, self._rest = stream, on_line, ""

    def write(self, text: str) -> int:
        written = self._stream.write(text)
        *lines, self._rest = re.split(r"[\r\n]", self._rest + text)
        self._rest = self._rest[-LONGEST:]
        for line in lines:
            self._on_line(line)
        return written

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def end(self) -> None:
        """Show the last line, which may have had no end."""
        rest, self._rest = self._rest, ""
        if rest:
            self._on_line(rest)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _number(text: str | None) -> float | None:
    found = re.match(r"\s*([-+]?(?:\d[\d_,]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?(?:nan|inf))",
                     text or "", re.IGNORECASE)  # fmt: skip
    return None if found is None else float(found.group(1).replace(",", "").replace("_", ""))
