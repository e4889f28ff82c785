"""The backward pass of ``measure``, which leaves no gradient behind."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from gradreach.errors import NotMeasurableError
from gradreach.flow.sources.own_cells import OwnCells
from gradreach.flow.sources.recorder import Recorder
from gradreach.flow.sources.weights import WeightGradients

__all__ = ["run_backward"]

REENTRANT = "CheckpointFunctionBackward"  # torch.utils.checkpoint(use_reentrant=True)


def run_backward(
    recorder: Recorder, loss: Tensor, own: OwnCells | None = None
) -> dict[int, Tensor | None]:
    """Run the backward pass; return the gradient it sent to each weight, by the weight's id.

    Raises:
        NotMeasurableError: The graph had been used before.
    """
    recorder.in_backward = True
    try:
        if recorder.without_graph:
            nodes = _nodes(loss)
            if any(node.name() == REENTRANT for node in nodes):
                return _whole_backward(recorder, loss, nodes, own)
        return _partial_backward(recorder, loss, own)
    except RuntimeError as error:
        if "backward through the graph a second time" in str(error):
            raise NotMeasurableError(
                "measure(): the loss reaches into a graph that was already used: a state is "
                "carried over from an earlier step without .detach(), or 'closure' ran backward "
                "itself; detach the state before the forward pass"
            ) from error
        raise
    finally:
        recorder.in_backward = False


def _partial_backward(
    recorder: Recorder, loss: Tensor, own: OwnCells | None
) -> dict[int, Tensor | None]:
    """Differentiate only as far as the recurrent layers reach; no ``.grad`` is written."""
    weights, wanted = _weights_of(recorder), {}
    for call in recorder.calls:
        for tensor in (*_tensors_in(call.inputs), *call.entering):
            if tensor.requires_grad:
                wanted[id(tensor)] = tensor
    if own is not None:
        weights |= _own_weights(own)
        wanted |= {id(tensor): tensor for tensor in own.inputs()}
    wanted |= weights
    if not wanted:
        return {}
    found = torch.autograd.grad(loss.sum(), list(wanted.values()), allow_unused=True)
    named = zip(wanted, found, strict=True)
    return {key: gradient for key, gradient in named if key in weights}


def _whole_backward(
    recorder: Recorder, loss: Tensor, nodes: list[Any], own: OwnCells | None
) -> dict[int, Tensor | None]:
    """Run the plain backward that reentrant checkpointing asks for; undo what it accumulates."""
    weights: dict[int, Tensor] = {
        id(weight): weight
        for module in recorder.modules
        for weight in module.parameters(recurse=False)
        if weight.requires_grad
    }
    if own is not None:
        weights |= _own_weights(own)
    leaves = [node.variable for node in nodes if hasattr(node, "variable")]
    kept = [(leaf, leaf.grad) for leaf in leaves]
    for leaf in leaves:
        leaf.grad = None
    try:
        with WeightGradients(weights.values()) as gradients:
            loss.sum().backward()  # type: ignore[no-untyped-call]
    finally:
        for leaf, gradient in kept:
            leaf.grad = gradient
    return gradients.by_id


def _own_weights(own: OwnCells) -> dict[int, Tensor]:
    return {id(weight): weight for weight in own.parameters if weight.requires_grad}


def _weights_of(recorder: Recorder) -> dict[int, Tensor]:
    found: dict[int, Tensor] = {}
    for call in recorder.calls:
        for weight in call.used_weights:
            if weight is not None and weight.requires_grad:
                found[id(weight)] = weight
    return found


def _tensors_in(value: Any) -> list[Tensor]:
    if isinstance(value, PackedSequence):
        return [value.data]
    return [value] if isinstance(value, Tensor) else []


def _nodes(loss: Tensor) -> list[Any]:
    """Return all nodes of a graph."""
    seen: dict[Any, None] = {}
    frontier = [loss.grad_fn]
    while frontier:
        node = frontier.pop()
        if node is not None and node not in seen:
            seen[node] = None
            frontier += [after for after, _ in node.next_functions]
    return list(seen)
