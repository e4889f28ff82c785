"""What a watched training comes to: its findings, and sentences on how it was watched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gradreach.diagnosis.diagnose import diagnose
from gradreach.records.event import Event
from gradreach.records.history import History
from gradreach.records.sighting import Sighting

__all__ = ["concluded", "notes"]

NOT_IN_SAMPLES = ("growing-graph",)  # seen by other means, so that no history tells of them
TOO_SHORT = "too few steps"  # as the rule says it


def concluded(
    history: History, seen: Sequence[Sighting], says_short: bool = True
) -> list[Sighting]:
    """Return the findings over a whole training, each with when samples showed it.

    What one sample showed early and later ones did not, or what another finding explains, is no
    alarm.

    Args:
        seen: What the samples showed one by one.
        says_short: Say so where there are too few steps to judge the training by.

    Example:
        >>> history = History.of([{"step": step, "loss": 0.9**step} for step in range(100)])
        >>> [str(each.finding.code) for each in concluded(history, [])]
        ['stagnated-training']
    """
    known = {(each.finding.code, each.finding.layer): each for each in seen}
    found = [each for each in seen if each.finding.code in NOT_IN_SAMPLES]
    steps = history["step"]
    last = int(steps[-1]) if len(steps) else 0
    for finding in diagnose(history):
        if says_short or finding.numbers.get("reason") != TOO_SHORT:
            before = known.get((finding.code, finding.layer), Sighting.at(finding, last))
            found.append(replace(before, finding=finding))
    return found


def notes(meta: Mapping[str, Any], events: Iterable[Event]) -> Iterator[str]:
    """Yield sentences on how a training was watched, and what went wrong with that.

    Args:
        meta: As in ``history.meta``.
    """
    promise = "" if meta["promise"] is None else f" (at most {meta['promise']:.0%} is meant)"
    yield (
        f"Watched {meta['steps']} optimizer steps and {meta['passes']} backward passes, sampled "
        f"{meta['samples']} ({meta['sampled']}); watching took {meta['watching_seconds']:.2f} s, "
        f"{meta['overhead']:.1%} on top of the training's own time{promise}."
    )
    for event in events:
        if event.kind in ("fault", "blind", "gap"):
            yield f"At step {event.step}: {event.text}."
