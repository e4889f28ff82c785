"""How a training was watched, and what is missing from its record, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from gradreach.records import History
from gradreach.runs.run_record import RunRecord

__all__ = ["run_notes"]

TOLD = ("fault", "blind", "gap")  # events that say what the record does not show


def run_notes(record: RunRecord) -> Iterator[str]:
    """Yield the sentences, the most important first."""
    if record.state == "running":
        yield f"The run is being written by {record.writer}: this is its record so far."
    if record.state == "killed":
        yield (
            "The run was never closed (its process was killed): this is its record to the last "
            "line written."
        )
    yield from record.complaints
    command = record.meta.get("command")
    if isinstance(command, list):
        yield f"Command: {' '.join(map(str, command))}."
    why = record.meta.get("not_measured")
    if why:
        yield f"Not measured: {why}."
    if record.history is not None:
        yield from _effort(record.history)
        for event in record.history.events:
            if event.kind in TOLD:
                yield f"At step {event.step}: {event.text.rstrip('.')}."


def _effort(history: History) -> Iterator[str]:
    """Yield how much was watched and what that cost, where the run came to say so."""
    meta = history.meta
    if not {"steps", "passes", "samples", "sampled", "watching_seconds", "overhead"} <= meta.keys():
        return
    promise = meta.get("promise")
    meant = "" if promise is None else f" (at most {promise:.0%} is meant)"
    yield (
        f"Watched {meta['steps']} optimizer steps and {meta['passes']} backward passes, sampled "
        f"{meta['samples']} ({meta['sampled']}); watching took {meta['watching_seconds']:.2f} s, "
        f"{meta['overhead']:.1%} on top of the training's own time{meant}."
    )
