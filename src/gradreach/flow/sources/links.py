"""Stitches the calls of one module into time axes, through the state they pass on."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from gradreach.flow.sources.calls import RecordedCall
from gradreach.flow.sources.place import Place, mark_of

__all__ = ["Chain", "Link", "Tails", "chains_of", "reaches"]

SEARCH_DEPTH = 6  # graph nodes between a state and its next use: a mask, a normalisation, a view


class Link:
    """How the state that enters a call is tied to the call before it."""

    SAME = "same"  # the very tensor, on the graph; or through a mask that lets all of it pass
    DETACHED = "detached"  # its values, cut off the graph
    TRANSFORMED = "transformed"  # changed on the way, still on the graph


@dataclass
class Chain:
    """Calls of one module on one time axis; ``links[j]`` ties call ``j`` to call ``j+1``."""

    calls: list[RecordedCall]
    links: list[str] = field(default_factory=list)


def chains_of(calls: list[RecordedCall]) -> list[Chain]:
    """Group the calls of one module into chains, in call order, by what preceded each."""
    chains: list[Chain] = []
    ends: dict[int, Chain] = {}  # by the id of a chain's last call
    for call in calls:
        earlier, link = call.before or (None, "")
        chain = ends.pop(id(earlier), None)
        if chain is None:
            chains.append(chain := Chain([call]))
        else:
            chain.calls.append(call)
            chain.links.append(link)
        ends[id(call)] = chain
    return chains


class Tails:
    """The last calls of the chains of each module, to which the next call may tie on.

    Looked up while the call is made: later the state it was given may be gone. A call has one
    successor at most: where a state is passed to two calls (a beam), the second begins a chain
    of its own.
    """

    def __init__(self) -> None:
        self._calls: dict[tuple[str, bool], list[RecordedCall]] = {}

    def tie(self, call: RecordedCall) -> None:
        """Set ``call.before``."""
        # What checkpointing recomputes is a copy, and ties on to copies only.
        tails = self._calls.setdefault((call.name, call.in_backward), [])
        for place in range(len(tails) - 1, -1, -1):
            link = _link(tails[place], call)
            if link is not None:
                call.before = (tails.pop(place), link)
                break
        tails.append(call)

    def all(self) -> list[RecordedCall]:
        """Return the last call of every chain."""
        return [call for tails in self._calls.values() for call in tails]

    def forget(self, calls: Container[int]) -> None:
        """Leave out the calls with these ids."""
        for tails in self._calls.values():
            tails[:] = [call for call in tails if id(call) not in calls]

    def clear(self) -> None:
        """Leave out all calls."""
        self._calls.clear()


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
    place = earlier.leaving_places[part]
    unchanged = later.entering_versions[part] == earlier.leaving_versions[part]
    if passed.requires_grad:
        if place is not None and place.holds(passed):
            return Link.SAME if unchanged and passed.shape == left.shape else Link.TRANSFORMED
        if place is not None and _let_through(passed, place):
            kept = left._version == earlier.leaving_versions[part] and passed.shape == left.shape
            return Link.SAME if kept else Link.TRANSFORMED
        marks = {mark for each in earlier.places() if each and (mark := each.mark)}
        return Link.TRANSFORMED if reaches(passed.grad_fn, marks) else None
    same_memory = (
        passed.untyped_storage().data_ptr() == left.untyped_storage().data_ptr()
        and passed.storage_offset() == left.storage_offset()
        and passed.shape == left.shape
    )
    if same_memory and unchanged:
        return Link.DETACHED
    # A copy cut off the graph: h.detach().clone(), torch.tensor(h).
    alike = (passed.shape, passed.dtype, passed.device) == (left.shape, left.dtype, left.device)
    copied = alike and bool(left.any()) and bool((passed == left).all())
    return Link.DETACHED if copied else None


def _let_through(passed: Tensor, place: Place) -> bool:
    """Whether a state only went through a mask of ones.

    Loops that begin an episode or a document anywhere multiply the state by a mask in every
    step, and nearly always by ones: its derivative is then that of the state itself.
    """
    node: Any = passed.grad_fn
    if node is None or node.name() != "MulBackward0":  # none: a learned state, say
        return False
    behind = [(each, output) for each, output in node.next_functions if each is not None]
    if len(behind) != 1:
        return False  # the factor is on the graph, too: a learned gate
    ((state, output),) = behind
    mark = place.mark
    if mark is None or mark_of(state) is not mark or output != place.output:
        return False
    on_graph = node.next_functions[0][0] is state
    factor = node._saved_other if on_graph else node._saved_self
    return isinstance(factor, Tensor) and bool((factor == 1).all())


def reaches(node: Any, marks: set[Any]) -> bool:
    """Search the graph backwards from ``node``, a few nodes deep."""
    frontier = [node] if node is not None and marks else []
    for _ in range(SEARCH_DEPTH):
        if any(mark_of(each) in marks for each in frontier):
            return True
        frontier = [after for each in frontier for after, _ in each.next_functions if after]
    return any(mark_of(each) in marks for each in frontier)
