"""One run as the live page shows it: read from its folder, kept up to date, told in parts."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradreach.diagnosis.sightings import sightings_of
from gradreach.records import Event, History, Sample
from gradreach.records.history import COLUMNS
from gradreach.records.plain import Array
from gradreach.records.sighting import Sighting
from gradreach.report.live.story import Known, Position, story
from gradreach.runs.folder import RunFolder, RunFolderError
from gradreach.runs.journal_format import Entry, JournalError
from gradreach.runs.journal_growth import JournalGrowth, ShrunkJournalError
from gradreach.runs.writer_lock import writer_of

__all__ = ["RunFeed"]

NAMES = tuple(COLUMNS)
SAMPLES = 240  # kept of a run, so that a server that watches for days stays small
EVENTS = 200
# The rules look at the whole history; they never take more than this share of the time.
ASK_AGAIN_SECONDS, ASK_SHARE = 1.0, 0.1


@dataclass
class RunFeed:
    """What is known of one run so far.

    Args:
        path: The run folder. id: What the page calls it by; no path ever comes from outside.

    Attributes:
        version: Rises whenever there is something new.
    """

    path: Path
    id: str
    version: int = 0
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _growth: JournalGrowth | None = None
    _known: Known = field(default_factory=Known)
    _asked: float = -math.inf
    _asking_took: float = 0.0
    _asked_of: tuple[int, int, str] = (-1, -1, "")

    def look(self) -> bool:
        """Read what is new; return whether anything is. Nothing here raises for a bad folder."""
        with self._lock:
            before = self._known.mark()
            try:
                self._read()
                self._known.trouble = ""
            except ShrunkJournalError:
                self._growth, self._known = None, Known(epoch=self._known.epoch + 1)
            except JournalError as error:
                self._known.trouble = str(error).replace(str(self.path), self.path.name)
                if not self.path.exists():
                    self._known.state = "deleted"
            changed = self._known.mark() != before
            self.version += changed
            return changed

    def told(self, position: Position | None) -> tuple[dict[str, Any], Position]:
        """Return what a page at ``position`` lacks; all of it where that is ``None`` or unknown."""
        with self._lock:
            return story(self.id, self.name, self._known, position)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.name

    @property
    def ended(self) -> bool:
        """Whether nothing more is to be expected."""
        return self._known.state in ("ended", "stopped", "killed", "deleted")

    def _read(self) -> None:
        known, first = self._known, self._growth is None
        with contextlib.suppress(JournalError):
            self._growth = self._growth or JournalGrowth(self.path)
        while self._growth is not None:
            gain = self._growth.new()
            known.add_rows(gain.rows)
            for entry in gain.entries:
                self._take(entry)
            if gain.all:
                break
        if first and self._growth is not None:  # what is there already came before we looked
            with contextlib.suppress(OSError):
                known.changed = self._growth.path.stat().st_mtime
        known.state = self._state()
        self._ask()

    def _take(self, entry: Entry) -> None:
        """Take in an entry; one that cannot be read is left out."""
        known = self._known
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
            if entry.kind == "sample":
                known.add_sample(Sample.from_dict(entry.data), SAMPLES)
            elif entry.kind == "event":
                known.events = [*known.events, Event.from_dict(entry.data)][-EVENTS:]
                known.event_count += 1
            elif entry.kind in ("meta", "end"):
                meta = entry.data.get("meta", entry.data)
                known.meta |= meta if isinstance(meta, dict) else {}
                known.closed = entry.kind == "end"

    def _state(self) -> str:
        if writer_of(self.path) is not None:
            return "running"
        told = self._json("meta.json").get("state")
        if self._growth is None:
            return "waiting" if told == "running" else "ended"
        if not self._known.closed:
            return "killed"
        return "stopped" if told == "stopped" else "ended"

    def _json(self, name: str) -> dict[str, Any]:
        path = self.path / name
        if path.is_symlink():  # whoever writes into the folder does not choose what we read
            return {}
        try:
            found = RunFolder.opened(self.path).read(name)
        except RunFolderError:
            return {}
        return found if isinstance(found, dict) else {}

    def _ask(self) -> None:
        """Ask the rules what is wrong, now and then while the run goes on, and at its end."""
        known = self._known
        subject = (known.count, known.sample_count, known.state)
        if subject == self._asked_of:
            return
        ended = self.ended and self._asked_of[2] != known.state
        pause = max(ASK_AGAIN_SECONDS, self._asking_took / ASK_SHARE)
        if not ended and time.monotonic() - self._asked < pause:
            return
        begun = time.monotonic()
        known.sightings = self._sightings()
        self._asked_of, self._asked = subject, time.monotonic()
        self._asking_took = self._asked - begun

    def _sightings(self) -> list[Sighting]:
        """Return what the run itself wrote when it ended, else what the rules say so far."""
        written: list[Sighting] = []
        if self.ended:
            with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
                plain = self._json("findings.json").get("findings", [])
                written = [Sighting.from_dict(each) for each in plain]
        if written or not (self._known.count or self._known.samples):
            return written
        return sightings_of(self._history())

    def _history(self) -> History:
        known = self._known
        rows: dict[str, Array] = {name: known.column(name) for name in NAMES}
        lag = known.meta.get("needs_lag")
        return History(
            rows=rows,
            samples=tuple(known.samples),
            events=tuple(known.events),
            needs_lag=lag if isinstance(lag, int) else None,
            meta={},
        )
