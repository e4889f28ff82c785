"""What is kept of one call of a user's own cell, and how it ties to the call before it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gradreach.flow.sources.arrival import Arrival
from gradreach.flow.sources.links import Link, reaches
from gradreach.flow.sources.place import Place
from gradreach.flow.sources.tree import Path

__all__ = ["OwnCall", "OwnChain", "Ties", "own_chains", "ties_between"]

Ties = dict[Path, dict[Path, str]]  # output of one call -> inputs of the next, with the Link


@dataclass(eq=False)
class OwnCall:
    """One forward call of a module that may be a cell.

    Args:
        given: Arguments and keyword arguments as they entered, ``(args, kwargs)``.
        inputs: The tensors in ``given``; the user's own.
        outputs: The floating tensors made by the call that are on the graph, each once.
        values: Copies of them, to compare a second run with.
        streams: Random streams before the call, where the call drew from them.
        buffers: Buffers before the call.
        attributes: Plain attributes of the module and its children before the call.
        autocast: Whether autocast was on, and its dtype.
        fed: Something computed from an output entered as input rather than as state.
    """

    name: str
    module: nn.Module
    given: tuple[Any, Any]
    inputs: dict[Path, Tensor]
    outputs: dict[Path, Tensor]
    values: dict[Path, Tensor]
    streams: tuple[Tensor, ...] | None
    buffers: list[Tensor]
    attributes: list[tuple[nn.Module, dict[str, Any]]]
    autocast: tuple[bool, torch.dtype]
    places: dict[Path, Place] = field(default_factory=dict)
    arrivals: dict[Path, Arrival] = field(default_factory=dict)
    before: tuple[OwnCall, Ties] | None = None
    fed: bool = False

    @property
    def reached(self) -> bool:
        """Whether any gradient arrived at this call."""
        return any(arrival.gradient is not None for arrival in self.arrivals.values())

    def watch(self) -> None:
        """Copy what the coming backward pass brings to the outputs."""
        self.arrivals = {path: Arrival(tensor) for path, tensor in self.outputs.items()}

    def entering(self, link: str) -> dict[Path, list[Path]]:
        """Return, for each output of the call before, the inputs it entered over such a link."""
        if self.before is None:
            return {}
        chosen = {
            source: [path for path, own in targets.items() if own == link]
            for source, targets in self.before[1].items()
        }
        return {source: paths for source, paths in chosen.items() if paths}


@dataclass
class OwnChain:
    """Calls of one cell on one time axis, oldest first."""

    calls: list[OwnCall]

    @property
    def parts(self) -> list[Path]:
        """Outputs that are state: those passed on to a next call anywhere in the chain."""
        found: dict[Path, None] = {}
        for call in self.calls[1:]:
            if call.before is not None:
                earlier, ties = call.before
                found |= dict.fromkeys(path for path in earlier.outputs if path in ties)
        return list(found)

    def steps_after(self, link: str) -> tuple[int, ...]:
        """Return the steps some of whose entering state came over such a link."""
        return tuple(step for step, call in enumerate(self.calls) if call.entering(link))


def own_chains(calls: list[OwnCall]) -> list[OwnChain]:
    """Group the calls of one module into chains, in call order."""
    chains: list[OwnChain] = []
    ends: dict[int, OwnChain] = {}
    for call in calls:
        chain = None if call.before is None else ends.pop(id(call.before[0]), None)
        if chain is None:
            chains.append(chain := OwnChain([]))
        chain.calls.append(call)
        ends[id(call)] = chain
    return chains


def ties_between(earlier: OwnCall, later: OwnCall) -> Ties:
    """Return which outputs of one call entered another as its state; sets ``later.fed``.

    What entered unchanged or cut off the graph is state. What was changed on its way is state
    where it kept its shape and nothing entered another argument unchanged: otherwise it was
    fed back as an input, which the state gradients include and the flow between steps does not.
    """
    pairs = [
        (source, path, link)
        for source, left in earlier.outputs.items()
        for path, passed in later.inputs.items()
        if (link := _link(earlier, source, left, passed)) is not None
    ]
    straight = [pair for pair in pairs if pair[2] != Link.TRANSFORMED]
    arguments = {path[:2] for _, path, _ in straight}
    sources = {source for source, _, _ in straight}
    ties: Ties = {}
    for source, path, link in straight:
        ties.setdefault(source, {})[path] = link
    for source, path, link in pairs:
        if link != Link.TRANSFORMED:
            continue
        alike = later.inputs[path].shape == earlier.outputs[source].shape
        taken = any(path in targets for targets in ties.values())
        elsewhere = bool(straight) and path[:2] not in arguments
        if source in sources or not alike or elsewhere or taken:
            later.fed = later.fed or not taken
        else:
            ties.setdefault(source, {})[path] = link
            sources.add(source)
    return ties


def _link(earlier: OwnCall, source: Path, left: Tensor, passed: Tensor) -> str | None:
    if not passed.is_floating_point():
        return None
    place = earlier.places[source]
    if passed.requires_grad:
        if place.holds(passed) and passed.shape == left.shape:
            return Link.SAME
        mark = place.mark
        return Link.TRANSFORMED if mark and reaches(passed.grad_fn, {mark}) else None
    if passed.shape != left.shape or passed.dtype != left.dtype:
        return None
    value = earlier.values[source]
    same_memory = passed.data_ptr() == left.data_ptr() and passed.stride() == left.stride()
    if (same_memory or bool(value.any())) and bool((passed == value).all()):
        return Link.DETACHED
    return None
