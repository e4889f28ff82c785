"""Stitches the calls of one module into time axes, through the state they pass on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gradreach.flow.sources.calls import FusedCall, RecordedCall

__all__ = ["Chain", "Link", "chains_of"]

SEARCH_DEPTH = 6  # graph nodes between a state and its next use: a mask, a normalisation, a view


class Link:
    """How the state that enters a call is tied to the call before it."""

    SAME = "same"  # the very tensor, on the graph
    DETACHED = "detached"  # its values, cut off the graph
    TRANSFORMED = "transformed"  # changed on the way, still on the graph


@dataclass
class Chain:
    """Calls of one module on one time axis; ``links[j]`` ties call ``j`` to call ``j+1``."""

    calls: list[RecordedCall]
    links: list[str] = field(default_factory=list)


def chains_of(calls: list[RecordedCall]) -> list[Chain]:
    """Group the calls of one module into chains, in call order.

    A chain has one successor at most: where a state is passed to two calls (a beam), the
    second begins an axis of its own.
    """
    chains: list[Chain] = []
    for call in calls:
        for chain in reversed(chains):
            link = _link(chain.calls[-1], call)
            if link is not None:
                chain.calls.append(call)
                chain.links.append(link)
                break
        else:
            chains.append(Chain([call]))
    return chains


def _link(earlier: RecordedCall, later: RecordedCall) -> str | None:
    if not later.entering or earlier.batch != later.batch or not _same_weights(earlier, later):
        return None
    links = {_state_link(earlier, later, part) for part in range(len(later.entering))}
    if None in links:
        return Link.TRANSFORMED if len(links) > 1 else None
    return links.pop() if len(links) == 1 else Link.TRANSFORMED


def _same_weights(earlier: RecordedCall, later: RecordedCall) -> bool:
    """Weight drop gives each call its own weights; such calls cannot share one tape."""
    pairs = zip(earlier.used_weights, later.used_weights, strict=True)
    return all(first is second for first, second in pairs)


def _state_link(earlier: RecordedCall, later: RecordedCall, part: int) -> str | None:
    passed, left = later.entering[part], earlier.leaving[part]
    unchanged = later.entering_versions[part] == earlier.leaving_versions[part]
    if passed is left and unchanged:
        return Link.SAME
    if passed.requires_grad:
        if passed.grad_fn is earlier.leaving_nodes[part] and passed.output_nr == left.output_nr:
            return Link.SAME if unchanged and passed.shape == left.shape else Link.TRANSFORMED
        targets = {earlier.leaving_nodes[part]}
        if isinstance(earlier, FusedCall):
            targets.add(earlier.output_node)
        return Link.TRANSFORMED if _reaches(passed.grad_fn, targets) else None
    same_memory = (
        passed.untyped_storage().data_ptr() == left.untyped_storage().data_ptr()
        and passed.storage_offset() == left.storage_offset()
        and passed.shape == left.shape
    )
    if same_memory and unchanged:
        return Link.DETACHED
    # A copy cut off the graph: h.detach().clone(), torch.tensor(h).
    copied = passed.shape == left.shape and passed.dtype == left.dtype and bool(left.any())
    return Link.DETACHED if copied and bool((passed == left.detach()).all()) else None


def _reaches(node: Any, targets: set[Any]) -> bool:
    """Search the graph backwards from ``node``, a few nodes deep."""
    frontier = [node] if node is not None else []
    for _ in range(SEARCH_DEPTH):
        if any(each in targets for each in frontier):
            return True
        frontier = [after for each in frontier for after, _ in each.next_functions if after]
    return any(each in targets for each in frontier)
