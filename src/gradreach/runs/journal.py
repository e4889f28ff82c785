"""The journal of a watched training: one writer, any number of readers, at any time."""

from __future__ import annotations

from gradreach.runs.journal_format import Entry, JournalError
from gradreach.runs.journal_reader import Journal, read_history, read_journal
from gradreach.runs.journal_tail import JournalTail, follow
from gradreach.runs.journal_writer import JournalWriter

__all__ = [
    "Entry",
    "Journal",
    "JournalError",
    "JournalTail",
    "JournalWriter",
    "follow",
    "read_history",
    "read_journal",
]
