"""Runs a script as ``python SCRIPT ARGS…`` would, inside this process."""

from __future__ import annotations

import builtins
import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from gradreach.errors import GradreachError
from gradreach.script.traceback_cut import last_line, without_ours

__all__ = ["Outcome", "ScriptError", "StopScript", "check_script", "run_script"]

INTERRUPTED = 130  # as a shell reports a death by SIGINT


class ScriptError(GradreachError):
    """There is no such script, or it cannot be read."""


class StopScript(BaseException):
    """Ends the script early, past its ``except Exception``; its ``finally`` blocks run."""


@dataclass(frozen=True)
class Outcome:
    """How a script ended.

    Args:
        exit_code: What Python would have exited with.
        stopped: It was ended early, on request.
        interrupted: It was ended by Ctrl-C; ``place`` is where it then stood.
        told: What the exceptions said that ended it, the last first: the exceptions themselves
            would keep everything alive that its functions hold.
    """

    exit_code: int
    stopped: bool = False
    interrupted: bool = False
    place: str = ""
    told: tuple[str, ...] = ()


class _ScriptLoader(SourceFileLoader):
    """Loads the script without leaving a ``.pyc`` beside it, as Python does for scripts."""

    def get_code(self, fullname: str) -> CodeType | None:
        return self.source_to_code(self.get_data(self.path), self.path)


def check_script(script: str) -> None:
    """Refuse a path that no script can be read from.

    Raises:
        ScriptError: There is no such file, or it cannot be read.

    Example:
        >>> check_script("no-such-file.py")
        Traceback (most recent call last):
        gradreach.script.runner.ScriptError: the script 'no-such-file.py' does not exist: name a \
Python file
    """
    path = Path(script)
    try:
        with path.open("rb"):
            return
    except FileNotFoundError:
        what = "does not exist"
    except IsADirectoryError:
        what = "is a folder"
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        what = f"cannot be read ({getattr(error, 'strerror', None) or error})"
    raise ScriptError(f"the script '{script}' {what}: name a Python file")


def run_script(script: str, arguments: list[str]) -> Outcome:
    """Run a script as ``__main__`` with its own arguments and working directory.

    It is left in ``sys.modules`` as ``__main__``, so that its classes pickle, also in handlers
    that run at exit. An exception is shown as Python would, without frames of ours.

    Args:
        script: Path as the user typed it. arguments: what follows it.

    Raises:
        ScriptError: There is no such file, or it cannot be read.
    """
    check_script(script)
    # Not normalised: Python does not either, and `__file__` may be printed or compared.
    absolute = os.path.join(os.getcwd(), script)  # noqa: PTH109, PTH118
    loader = _ScriptLoader("__main__", absolute)
    main = ModuleType("__main__")
    main.__file__, main.__loader__, main.__spec__ = absolute, loader, None
    main.__dict__.update(__builtins__=builtins, __package__=None, __cached__=None)
    main.__dict__.setdefault("__annotations__", {})
    sys.argv = [script, *arguments]
    if not sys.flags.safe_path:
        sys.path[0] = str(Path(script).resolve().parent)
    sys.modules["__main__"] = main
    try:
        loader.exec_module(main)
    except StopScript:
        return Outcome(0, stopped=True)
    except SystemExit as end:
        return Outcome(_exit_code(end), told=tuple(_told(end)))
    except BaseException as error:  # noqa: BLE001  shown and passed on as an exit code
        interrupted = isinstance(error, KeyboardInterrupt)
        place = last_line(error.__traceback__, absolute) if interrupted else ""
        # A traceback of wherever Ctrl-C happened to strike helps nobody; the place is told.
        if not interrupted or sys.excepthook is not sys.__excepthook__:
            _show(error, absolute)
        code = INTERRUPTED if interrupted else 1
        return Outcome(code, False, interrupted, place, tuple(_told(error)))
    return Outcome(0)


def _exit_code(end: SystemExit) -> int:
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code & 0xFF
    with contextlib.suppress(OSError, ValueError, AttributeError):  # standard error is closed
        sys.stderr.write(f"{end.code}\n")
    return 1


def _told(error: BaseException | None) -> Iterator[str]:
    """Yield what an exception and those it arose from say."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield f"{type(error).__name__}: {error}"
        error = error.__cause__ or error.__context__


def _show(error: BaseException, script: str) -> None:
    """Show an exception by the script's own excepthook, without frames of ours."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # a closed pipe, or no stdout
        sys.stdout.flush()
    without_ours(error, script)
    try:
        sys.excepthook(type(error), error, error.__traceback__)
    except BaseException as failure:  # noqa: BLE001  as Python does: both are shown
        failure.__context__ = None  # it arose while we, not the script, handled the other
        without_ours(failure, script)
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.write("Error in sys.excepthook:\n")
            sys.__excepthook__(type(failure), failure, failure.__traceback__)
            sys.stderr.write("\nOriginal exception was:\n")
            sys.__excepthook__(type(error), error, error.__traceback__)
