"""From the lines that a treatment would change to a file that `patch` and `git apply` take."""

from __future__ import annotations

import ast
import difflib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gradreach.runs.files import write_whole
from gradreach.treatments.edit import Edit, edited
from gradreach.treatments.source_file import NoLineError, SourceFile

__all__ = ["Patch", "patch_of"]

NO_END = b"\n\\ No newline at end of file\n"


@dataclass(frozen=True)
class Patch:
    r"""A unified diff over the user's files.

    Attributes:
        root: The folder that its paths are relative to.
        data: The diff, in the encodings of the files it is about; line ends as they are there.
        files: What each file would hold, by its path relative to the root.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     script = Path(folder) / "train.py"
        ...     _ = script.write_text("rnn = nn.RNN(2, 3)\n")
        ...     print(patch_of([Edit(str(script), 1, 6, 1, 12, "nn.GRU")], root=folder))
        --- train.py
        +++ train.py
        @@ -1 +1 @@
        -rnn = nn.RNN(2, 3)
        +rnn = nn.GRU(2, 3)
    """

    root: str
    data: bytes
    files: dict[str, bytes]

    def __bool__(self) -> bool:
        return bool(self.data)

    def __str__(self) -> str:
        return self.data.decode(errors="replace").rstrip("\n")

    @property
    def commands(self) -> tuple[str, str]:
        """How to apply it, from its root: with either of two programs."""
        return "patch -p0 < FILE", "git apply -p0 FILE"

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write it as a file.

        Raises:
            WriteError: That file cannot be written.
        """
        write_whole(path, self.data)

    def apply(self) -> None:
        """Change the files themselves, each whole or not at all.

        Raises:
            WriteError: One of them cannot be written.
        """
        for name, content in self.files.items():
            write_whole(Path(self.root) / name, content)


def patch_of(edits: Iterable[Edit], *, root: str | os.PathLike[str] | None = None) -> Patch:
    """Make a diff of edits.

    Where a file lies outside ``root``, as no diff may say, the root is the nearest folder above
    them all.

    Args:
        edits: As treatments return them; an import that stands there twice is made once.
            Their line ends become the file's own.
        root: What paths are relative to; the working directory by default.

    Raises:
        NoLineError: A file cannot be read as Python, its encoding cannot hold the change, or
            what would come of it is no Python.
        ValueError: Two edits touch the same characters.
    """
    by_file: dict[str, list[Edit]] = {}
    for edit in edits:
        by_file.setdefault(os.path.realpath(edit.file), []).append(edit)
    base = _root(list(by_file), root)
    parts: list[bytes] = []
    files: dict[str, bytes] = {}
    for path, its in sorted(by_file.items()):
        source = SourceFile.read(path)
        after = source.encoded(_rewritten(source, its))
        name = Path(path).relative_to(base).as_posix()
        before = source.encoded(source.text)
        if before != after:
            files[name] = after
            parts.append(_diff(name, before, after))
    return Patch(str(base), b"".join(parts), files)


def _rewritten(source: SourceFile, edits: Sequence[Edit]) -> str:
    own_ends = [
        replace(edit, replacement=re.sub(r"\r?\n", source.newline, edit.replacement))
        for place, edit in enumerate(edits)
        # Two treatments may import the same; what else they have in common is meant twice.
        if not (edit.replacement.startswith("import ") and edit in edits[:place])
    ]
    after = edited(source.text, own_ends)
    try:
        ast.parse(after)
    except (SyntaxError, ValueError) as error:
        raise NoLineError(
            f"the lines to change cannot be written into {source.path!r} ({error})"
        ) from error
    return after


def _root(paths: Sequence[str], root: str | os.PathLike[str] | None) -> Path:
    base = Path(os.path.realpath(Path.cwd() if root is None else root))
    if all(Path(path).is_relative_to(base) for path in paths):
        return base
    return Path(os.path.commonpath([Path(path).parent for path in paths]))


def _diff(name: str, before: bytes, after: bytes) -> bytes:
    """Return one file's part. A name with a space is ended by a tab, as both programs expect."""
    shown = name.encode() + (b"\t" if " " in name else b"")
    lines = difflib.diff_bytes(
        difflib.unified_diff, _lines(before), _lines(after), shown, shown, lineterm=b"\n"
    )
    return b"".join(line if line.endswith(b"\n") else line + NO_END for line in lines)


def _lines(data: bytes) -> list[bytes]:
    """Split as those programs do: at line feeds only."""
    return [line for line in re.split(rb"(?<=\n)", data) if line]
