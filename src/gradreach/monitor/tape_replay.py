"""Runs a recorded pass again with other weights, without touching the run it came from."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._device import DeviceContext

from gradreach.monitor.ambient import kept_ambient, set_random_streams
from gradreach.monitor.tape import Tape, modes
from gradreach.monitor.tape_values import NotReplayableError, Ref, mapped, tensors_in, version_of

__all__ = ["BranchChangedError", "replayed_gradients", "replayed_loss"]


class BranchChangedError(Exception):
    """With these weights Python would have been told something else, and may go another way."""


def replayed_loss(tape: Tape, weights: Mapping[int, Tensor]) -> Tensor:
    """Return the loss that a recorded pass has with other weights.

    Every call is made again as it was: with the same random numbers, under the same autocast, and
    in the grad mode it had, in which torch picks its kernels. What a call writes into is a copy.
    Random streams, modes and the user's tensors are afterwards what they were.

    Args:
        weights: By ``id`` of a leaf of the tape, what stands in its place; it may be written
            into. Other leaves keep the value they have.

    Raises:
        NotReplayableError: A tensor that the pass was given has changed, or a mode is active.
        BranchChangedError: The pass branches on a value that is now another.

    Cost:
        One forward pass, and the memory of its graph for as long as it takes.

    Example:
        >>> from gradreach.monitor.guard import Guard
        >>> weight = torch.tensor([2.0], requires_grad=True)
        >>> tape = Tape(Guard(on_fault=lambda: None))
        >>> tape.begin()
        >>> loss = (3 * weight).square().sum()
        >>> tape.end([loss])
        >>> replayed_loss(tape, {id(weight): torch.tensor([1.0])})
        tensor(9.)
    """
    return _replayed(tape, weights, differentiate=False)[0]


def replayed_gradients(
    tape: Tape, weights: Mapping[int, Tensor]
) -> tuple[Tensor, dict[int, Tensor | None]]:
    """Return the loss as :func:`replayed_loss` does, and its gradient with respect to the weights.

    Returns:
        By ``id`` of a leaf; ``None`` where the loss does not depend on it by what was recorded
        with gradients: the inside of a custom autograd function is not.

    Cost:
        One forward and backward pass.
    """
    loss, gradients = _replayed(tape, weights, differentiate=True)
    return loss, gradients


def _replayed(
    tape: Tape, weights: Mapping[int, Tensor], *, differentiate: bool
) -> tuple[Tensor, dict[int, Tensor | None]]:
    if any(not isinstance(mode, DeviceContext) for mode in modes()):
        raise NotReplayableError("a torch function mode of somebody else's is active")
    if torch._C._len_torch_dispatch_stack():
        raise NotReplayableError("a torch dispatch mode is active")
    values = tape.values
    if any(constant.changed for constant in values.constants) or any(
        id(leaf) not in weights and version_of(leaf) != version
        for leaf, version in zip(values.leaves, values.leaf_versions, strict=True)
    ):
        raise NotReplayableError("a tensor that the pass was given has changed since")
    with kept_ambient(tape.devices), warnings.catch_warnings():
        # What it warns of, the user was told when it ran.
        warnings.simplefilter("ignore")
        set_random_streams(tape.streams)
        tensors: dict[Ref, Tensor] = {
            Ref("constant", number): constant.fresh()
            for number, constant in enumerate(values.constants)
        }
        own: dict[int, Tensor] = {}
        for number, leaf in enumerate(values.leaves):
            given = weights.get(id(leaf))
            value = leaf.detach().clone() if given is None else given.detach()
            own[id(leaf)] = value.requires_grad_(leaf.requires_grad)
            tensors[Ref("leaf", number)] = own[id(leaf)]
        _run(tape, tensors)
        roots = [tensors[root].reshape(()) for root in tape.roots]
        loss = sum(roots[1:], roots[0])
        if not differentiate or not loss.requires_grad:
            return loss.detach(), {}
        wanted = [key for key in weights if key in own and own[key].requires_grad]
        found = torch.autograd.grad(loss, [own[key] for key in wanted], allow_unused=True)
        return loss.detach(), dict(zip(wanted, found, strict=True))


def _run(tape: Tape, tensors: dict[Ref, Tensor]) -> None:
    """Make all calls."""

    def looked_up(ref: Any) -> Tensor:
        return tensors[ref]

    before = None
    for call in tape.calls:
        if call.ambient is not before and call.ambient != before:
            call.ambient.set(tape.devices)
            before = call.ambient
        result = call.function(*mapped(call.args, looked_up), **mapped(call.kwargs, looked_up))
        if call.read is not None:
            if result != call.read:
                raise BranchChangedError
            continue
        tensors.update(zip(call.results, tensors_in(result), strict=True))
