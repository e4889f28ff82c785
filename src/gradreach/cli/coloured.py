"""Colour for the stories of the command line, where a terminal wants it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

import click

__all__ = ["coloured"]

STYLES = {"error": "red", "warning": "yellow", "note": "cyan"}


def coloured(lines: Iterable[str], *, terminal: bool) -> Iterator[str]:
    """Yield the lines of a story for a terminal: the verdict bold, severities in colour.

    Where it is no terminal, or ``NO_COLOR`` is set, or the terminal is a dumb one, the lines
    stay plain.

    Args:
        lines: The first of them is the verdict.
        terminal: Whether they go to one.

    Example:
        >>> list(coloured(["train.py: …", "  warning: dead-units"], terminal=False))
        ['train.py: …', '  warning: dead-units']
    """
    plain = not terminal or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    for place, line in enumerate(lines):
        severity, colon, rest = line.strip().partition(": ")
        if plain:
            yield line
        elif place == 0:
            yield click.style(line, bold=True)
        elif colon and severity in STYLES and line.startswith(f"  {severity}"):
            yield "  " + click.style(f"{severity}: {rest}", fg=STYLES[severity], bold=True)
        else:
            yield line
