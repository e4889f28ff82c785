"""A state carried from one pass into the next on the graph."""

from __future__ import annotations

from pathlib import PurePath

from gradreach.records.finding import Finding

__all__ = ["growing_graph"]


def growing_graph(layer: str, file: str, line: int, source: str, *, crashed: bool) -> Finding:
    """Say that a state enters a layer still attached to the graph of an earlier pass.

    Args:
        layer: The layer it enters.
        file: The user's file, with ``line`` and ``source`` of the call it enters by.
        crashed: Whether the script died of it; otherwise its graph grows with every step.

    Example:
        >>> found = growing_graph("rnn", "train.py", 12, "out, h = rnn(x, h)", crashed=True)
        >>> found.severity
        'error'
    """
    place = f"{PurePath(file).name}:{line}" if file else "the line that calls it"
    shown = f" (`{source}`)" if source else ""
    outcome = (
        "the backward pass runs into a graph that has been used and freed, which ended the script"
        if crashed
        else "every backward pass goes through all earlier ones as well: time and memory grow"
    )
    return Finding(
        code="growing-graph",
        # Where it does not crash it may be meant, and end after so many passes.
        severity="error" if crashed else "warning",
        layer=layer,
        cause=(
            f"the state that enters {layer} at {place}{shown} still hangs on the graph of the "
            f"pass before, so that {outcome}; detach it before that line: `h = h.detach()`, for "
            "an LSTM `state = tuple(s.detach() for s in state)`"
        ),
        numbers={"file": file, "line": line, "source": source, "crashed": crashed},
        counter_check=(
            "detach the state before that line: the error, or the growth of the time per step, "
            "must be gone"
        ),
        remedies=("truncation",),
    )
