"""Which files of the user decide what a training does, and what is in them."""

from __future__ import annotations

import ast
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

__all__ = ["digest_of", "named_files", "own_modules"]


def own_modules(script: Path) -> list[Path]:
    """Return a script and the modules beside it that it imports, and those that they import.

    Found by reading, not by running; what is imported under a name made at run time is not seen,
    and installed packages are not looked into.

    Example:
        >>> [path.name for path in own_modules(Path(__file__))]
        ['sources.py']
    """
    folder, found, queue = script.parent, [script], [script]
    for path in queue:
        for module in _imports_of(path):
            for beside in _files_of(folder, module):
                if beside not in found:
                    found.append(beside)
                    queue.append(beside)
    return found


def named_files(args: Sequence[str], cwd: str) -> list[Path]:
    """Return the files that arguments name, also as ``--data=FILE``.

    Example:
        >>> here = Path(__file__)
        >>> [f.name for f in named_files(["--data=" + here.name, "-v", "no.csv"], str(here.parent))]
        ['sources.py']
    """
    values = [value for each in args for value in (each, each.partition("=")[2]) if value]
    paths = [Path(cwd, value) for value in values if "\0" not in value]
    return list(dict.fromkeys(path for path in paths if _is_file(path)))


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file's content; ``"absent"`` where it cannot be read."""
    try:
        about = path.stat()
        return _digest(str(path), about.st_mtime_ns, about.st_size)
    except OSError:
        return "absent"


@lru_cache(maxsize=256)  # one study asks for the same files once a trial
def _digest(path: str, changed: int, size: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # an argument that is too long for a name
        return False


def _imports_of(path: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):  # it will say so itself when it is run
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # A relative import stays in the folder, too: its package's files lie below.
            yield node.module or ""
            yield from (f"{node.module or ''}.{alias.name}".strip(".") for alias in node.names)


def _files_of(folder: Path, module: str) -> Iterable[Path]:
    """Return the files beside the script that an import of a module loads."""
    parts = [part for part in module.split(".") if part]
    for length in range(1, len(parts) + 1):
        place = folder.joinpath(*parts[:length])
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if os.access(path, os.R_OK):
                yield path
