"""Says what a state carried over without detach had to do with the end of a script."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradreach.script.runner import Outcome

if TYPE_CHECKING:  # importing the session imports torch
    from gradreach.monitor.session import Session

__all__ = ["explain_crash"]

CRASHES = ("graph a second time", "modified by an inplace operation")  # in torch's own words


def explain_crash(session: Session, outcome: Outcome) -> None:
    """Say what a state carried over without detach had to do with the end of the script."""
    carried = session.watch.carried
    crashed = any(words in told for words in CRASHES for told in outcome.told)
    # Once may be meant: a window of two passes that share their graph. Twice in a row it grows.
    if carried.found is None or not (crashed or carried.in_a_row > 1):
        return
    from gradreach.diagnosis.rules.growing_graph import growing_graph

    found = carried.found
    session.see(
        growing_graph(found.layer, found.file, found.line, found.source, crashed=crashed),
        found.step,
    )
