"""Which runs a server shows: those it was given, and those that appear in a folder of runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gradreach.report.live.feed import RunFeed
from gradreach.runs.folder import RunFolderError
from gradreach.runs.run_record import MARKS, is_run

__all__ = ["ServedRuns"]

SCAN_SECONDS = 2.0
MOST_RUNS = 500


class ServedRuns:
    """A table from ids to runs: the only way from a request to a file.

    Args:
        paths: Run folders, and folders that hold run folders.

    Raises:
        RunFolderError: One of them is neither.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._lock = threading.Lock()
        self._feeds: dict[Path, RunFeed] = {}
        self._parents: list[Path] = []
        self._scanned = 0.0
        for path in paths:
            self._add_named(path)
        self.scan()

    def scan(self) -> None:
        """Look for new runs in the folders of runs, at most every two seconds."""
        with self._lock:
            if time.monotonic() - self._scanned < SCAN_SECONDS and self._scanned:
                return
            self._scanned = time.monotonic()
            for parent in self._parents:
                for path in _runs_in(parent):
                    self._add(path)

    def feeds(self) -> list[RunFeed]:
        """Return all runs, in the order they were found."""
        with self._lock:
            return list(self._feeds.values())

    def feed(self, id_: str) -> RunFeed | None:
        """Return the run of an id; ``None`` where there is none."""
        return next((feed for feed in self.feeds() if feed.id == id_), None)

    def listed(self) -> list[dict[str, Any]]:
        """Return what the list of runs shows, the latest first."""
        told = [
            {"id": feed.id, "name": feed.name, "changed": _changed(feed.path)}
            for feed in self.feeds()
        ]
        return sorted(told, key=lambda run: str(run["changed"]), reverse=True)

    def _add_named(self, path: Path) -> None:
        try:
            if is_run(path):
                self._add(path)
                return
            if path.is_dir():
                self._parents.append(path.resolve())
                return
        except (OSError, ValueError):  # a name too long, a NUL character in it
            pass
        raise RunFolderError(
            f"'{path}' is no run folder and no folder of runs: name what gradreach.watch(run=…) "
            "or `gradreach diagnose` has written"
        )

    def _add(self, path: Path) -> None:
        own = path.resolve()
        if own not in self._feeds and len(self._feeds) < MOST_RUNS:
            self._feeds[own] = RunFeed(own, f"r{len(self._feeds)}")


def _runs_in(parent: Path) -> list[Path]:
    """Return the runs in a folder; links are not followed, they may lead anywhere."""
    try:
        return sorted(path for path in parent.iterdir() if not path.is_symlink() and is_run(path))
    except OSError:
        return []


def _changed(path: Path) -> str:
    """Return when a run was last written, as a reader tells the time."""
    for name in MARKS:
        try:
            stamp = (path / name).stat().st_mtime
        except OSError:
            continue
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(stamp))
    return ""
