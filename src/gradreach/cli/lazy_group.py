"""A click group whose commands are imported only when they are run."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import click

__all__ = ["HELP", "LazyGroup"]

HELP: Mapping[str, Any] = {"help_option_names": ["-h", "--help"]}
"""Context settings of every command: click settles a command's help option once and for all by
the first context that asks, be it the group's or, where it is called alone, its own."""


class LazyGroup(click.Group):
    """A group that knows its commands by name, place and one line of help.

    ``--help`` and a misspelt name import none of them, so that neither waits for torch.

    Args:
        lazy: Command name -> (``"module:attribute"``, one line of help), in the order of
            ``--help``. The line is the first one of the command's own help; a test compares.

    Example:
        >>> group = LazyGroup("g", lazy={"sqrt": ("math:sqrt", "Draw a root.")})
        >>> group.list_commands(click.Context(group))
        ['sqrt']
    """

    def __init__(
        self, *args: Any, lazy: Mapping[str, tuple[str, str]] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        # A module that is not part of this installation is no command of it.
        self.lazy = {
            name: (place, line)
            for name, (place, line) in (lazy or {}).items()
            if find_spec(place.partition(":")[0]) is not None
        }

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return [*self.lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command, if it is one of the table."""
        if cmd_name not in self.lazy:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self.lazy[cmd_name][0].partition(":")
        command = getattr(import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}:{attribute} must be a click command; it is {command!r}")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the section of commands from the table alone."""
        rows = [(name, line) for name, (_, line) in self.lazy.items()]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)
