"""Runs a script as ``python SCRIPT ARGS…`` would, inside this process."""

from __future__ import annotations

import builtins
import sys
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType, TracebackType

from gradreach.errors import GradreachError

PACKAGE = str(Path(__file__).resolve().parent.parent)  # frames below it are ours

__all__ = ["Outcome", "ScriptError", "StopScript", "run_script"]


class ScriptError(GradreachError):
    """There is no such script, or it cannot be read."""


class StopScript(BaseException):
    """Ends the script early, past its ``except Exception``; its ``finally`` blocks run."""


@dataclass(frozen=True)
class Outcome:
    """How a script ended.

    Args:
        exit_code: What Python would have exited with.
        error: The exception that ended it, if one did.
        stopped: It was ended early, on request.
    """

    exit_code: int
    error: BaseException | None = None
    stopped: bool = False


class _ScriptLoader(SourceFileLoader):
    """Loads the script without leaving a ``.pyc`` beside it, as Python does for scripts."""

    def get_code(self, fullname: str):  # type: ignore[no-untyped-def]
        return self.source_to_code(self.get_data(self.path), self.path)


def run_script(script: str, arguments: list[str]) -> Outcome:
    """Run a script as ``__main__`` with its own arguments and working directory.

    It is left in ``sys.modules`` as ``__main__``, so that its classes pickle, also in handlers
    that run at exit. An exception is shown as Python would, without frames of ours.

    Args:
        script: Path as the user typed it. arguments: what follows it.

    Raises:
        ScriptError: There is no such file, or it is not Python source.
    """
    path = Path(script)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ScriptError(f"the script '{script}' {what}: name a Python file")
    absolute = str(path.absolute())
    loader = _ScriptLoader("__main__", absolute)
    main = ModuleType("__main__")
    main.__file__, main.__loader__, main.__spec__ = absolute, loader, None
    main.__dict__.update(__builtins__=builtins, __package__=None, __cached__=None)
    sys.argv = [script, *arguments]
    if not sys.flags.safe_path:
        sys.path[0] = str(path.resolve().parent)
    sys.modules["__main__"] = main
    try:
        loader.exec_module(main)
    except StopScript:
        return Outcome(0, stopped=True)
    except SystemExit as end:
        return Outcome(_exit_code(end), error=end)
    except BaseException as error:  # noqa: BLE001  shown and passed on as an exit code
        _show(error, absolute)
        return Outcome(130 if isinstance(error, KeyboardInterrupt) else 1, error=error)
    return Outcome(0)


def _exit_code(end: SystemExit) -> int:
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code & 0xFF
    sys.stderr.write(f"{end.code}\n")
    return 1


def _show(error: BaseException, script: str) -> None:
    """Show an exception by the script's own excepthook, without frames of ours."""
    sys.stdout.flush()
    own = _without_ours(error.__traceback__, script)
    sys.excepthook(type(error), error.with_traceback(own), own)


def _without_ours(trace: TracebackType | None, script: str) -> TracebackType | None:
    """Return the frames from the script's own on, less those of this package.

    A script that does not compile has no frame of its own, and Python shows none for it.
    """
    frames: list[TracebackType] = []
    inside = False
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        inside = inside or name == script
        if inside and not name.startswith(PACKAGE):
            frames.append(trace)
        trace = trace.tb_next
    shown: TracebackType | None = None
    for frame in reversed(frames):
        shown = TracebackType(shown, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return shown
