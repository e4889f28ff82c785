"""How every command ends: its exit code, its errors as one sentence, never a traceback."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Collection, Sequence
from typing import Any

import click

from gradreach.cli.any_encoding import tolerate_any_encoding
from gradreach.cli.lazy_group import LazyGroup
from gradreach.errors import GradreachError

__all__ = ["EndingGroup"]

COULD_NOT_MEASURE = 3
INTERRUPTED = 128 + 2  # as a shell reports a death by SIGINT
READER_GONE = 128 + 13  # … by SIGPIPE; 1 would mean "problem found"


class _ReaderGoneError(Exception):
    """Whoever read our standard output has closed it; no OSError, which click would keep."""


class EndingGroup(LazyGroup):
    """The top group: whatever happens below, the process ends as the manual says.

    0 healthy, 1 problem found (a command returns it), 2 usage error, 3 could not measure,
    130 after Ctrl-C, 141 when the reader of a pipe has gone. What is not gradreach's own error
    is a bug, or the user's code: its traceback is shown.

    Args:
        running_scripts: Commands that run somebody's script. Standard output is theirs as it
            was found, also where it refuses a character.

    Example:
        >>> group = EndingGroup("g", callback=lambda: None)
        >>> group.main(["--no-such-option"], standalone_mode=False)
        Traceback (most recent call last):
        click.exceptions.NoSuchOption: No such option '--no-such-option'.
    """

    def __init__(self, *args: Any, running_scripts: Collection[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.running_scripts = frozenset(running_scripts)
        self._restore_streams: Callable[[], None] = lambda: None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that was asked for."""
        name, command, rest = super().resolve_command(ctx, args)
        if name in self.running_scripts:
            self._restore_streams()
        return name, command, rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a closed pipe is passed by click, which would end with 0 or 1."""
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno == errno.EPIPE and error.filename is None:
                raise _ReaderGoneError from error
            raise

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line and end the process; see `click.Command.main`."""

        def run() -> Any:
            return super(EndingGroup, self).main(
                args=args,
                prog_name=prog_name,
                complete_var=complete_var,
                standalone_mode=False,
                windows_expand_args=windows_expand_args,
                **extra,
            )

        if not standalone_mode:
            return run()
        self._restore_streams = tolerate_any_encoding()
        sys.exit(_code_of(run))


def _code_of(run: Callable[[], Any]) -> int:
    try:
        result = run()
        if sys.stdout is not None:  # it is None after `>&-`
            sys.stdout.flush()  # here, so that a closed pipe is not met after the last except
    except click.ClickException as error:
        error.show()
        return 2 if isinstance(error, click.UsageError) else COULD_NOT_MEASURE
    except GradreachError as error:
        _say(" ".join(str(error).split()))
        return COULD_NOT_MEASURE
    except (KeyboardInterrupt, click.Abort):
        _say("Interrupted.", prefix="")
        return INTERRUPTED
    except _ReaderGoneError:
        _discard_output()
        return READER_GONE
    except OSError as error:
        if error.filename is not None or error.errno not in (errno.EPIPE, errno.ENOSPC):
            raise
        _discard_output()
        if error.errno == errno.EPIPE:  # met by the flush above
            return READER_GONE
        _say("standard output cannot be written: the disk is full")
        return COULD_NOT_MEASURE
    return result if isinstance(result, int) else 0


def _say(sentence: str, prefix: str = "Error: ") -> None:
    with contextlib.suppress(OSError):  # whoever read standard error may have gone as well
        click.echo(prefix + sentence, err=True)


def _discard_output() -> None:
    """Send what is still buffered nowhere, or Python complains about it when it ends."""
    with contextlib.suppress(OSError, ValueError):  # a stream that is no real file
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
