"""Logged numbers as a table in a file, for whoever has no tracker."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path

from gradreach.runs.files import WriteError, check_writable, write_whole

__all__ = ["CsvLog"]

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would run instead of show


class CsvLog:
    """Writes one row a call: the step, then a column for each name, in the order they came.

    Every row is in the file when the call returns. NaN and infinities are written as ``nan``,
    ``inf`` and ``-inf``, which pandas and NumPy read; a number that a row does not have is
    left empty.

    Args:
        path: The file. Folders above it are made.
        overwrite: Replace a file that is there already.

    Raises:
        WriteError: It is there already, or cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     log = CsvLog(Path(folder) / "log.csv")
        ...     log({"loss": 0.5}, 0)
        ...     log({"loss": float("nan"), "reach": 12}, 1)
        ...     print((Path(folder) / "log.csv").read_text(), end="")
        step,loss,reach
        0,0.5,
        1,nan,12
    """

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        self.path = Path(path)
        if check_writable(path).exists() and not overwrite:
            raise WriteError(
                f"cannot write {os.fspath(path)!r}: it is there already: name another file or "
                "pass overwrite=True"
            )
        self._names: list[str] = []
        write_whole(self.path, "step\n")

    def __call__(self, numbers: Mapping[str, float], step: int) -> None:
        """Add a row."""
        new = [name for name in numbers if name not in self._names]
        if new:
            self._widen(new)
        row = [step, *(numbers.get(name, "") for name in self._names)]
        with self.path.open("a", encoding="utf-8", newline="") as file:
            file.write(_line(row))

    def _widen(self, names: list[str]) -> None:
        """Write the table again with more columns, which happens once or twice in a run."""
        with self.path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))[1:]
        self._names += names
        head = ["step", *(f"'{name}" if name.startswith(FORMULA) else name for name in self._names)]
        filled = [[*row, *[""] * (len(head) - len(row))] for row in rows]
        write_whole(self.path, "".join(map(_line, [head, *filled])))


def _line(cells: Sequence[object]) -> str:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
