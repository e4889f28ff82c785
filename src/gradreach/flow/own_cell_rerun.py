"""Runs one call of an own cell again, so that it can be differentiated alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gradreach.errors import NotMeasurableError
from gradreach.flow.sources.links import Link
from gradreach.flow.sources.own_calls import OwnCall
from gradreach.flow.sources.tree import Path, mapped, tensors_in

__all__ = ["Rerun", "Scaled", "Vjp", "learned", "rerun"]

LEAST = 2.0**-1000  # its inverse is still a float64


@dataclass(frozen=True)
class Scaled:
    """A tensor in the model's dtype times a float64 factor."""

    value: Tensor
    factor: float

    def double(self) -> Tensor:
        """Return the tensor itself in float64."""
        return self.value.double() * self.factor


@dataclass(frozen=True)
class Vjp:
    """What one step does to a gradient.

    Args:
        entering: By input, the gradient that flows on to the step before.
        totals: By output, its gradient including the paths through the call's other outputs.
        contributions: By parameter, the step's term of its gradient.
    """

    entering: dict[Path, Tensor]
    totals: dict[Path, Tensor]
    contributions: dict[str, Scaled]


@dataclass
class Rerun:
    """A second run of one call, with a graph of its own.

    Args:
        leaves: The inputs through which state of the call before entered unchanged.
        outputs: Those that carry gradient here.
        consumers: By output, the outputs of the same call that were computed from it.
    """

    leaves: dict[Path, Tensor]
    outputs: dict[Path, Tensor]
    parameters: dict[str, Tensor]
    consumers: dict[Path, list[Path]] = field(init=False)

    def __post_init__(self) -> None:
        self.consumers = {path: [] for path in self.outputs}
        if len(self.outputs) > 1:
            nodes = {path: _nodes(tensor) for path, tensor in self.outputs.items()}
            for path, tensor in self.outputs.items():
                if tensor.grad_fn is not None:
                    self.consumers[path] = [
                        other
                        for other in self.outputs
                        if other != path
                        and tensor.grad_fn in nodes[other]
                        and self.outputs[other].grad_fn is not tensor.grad_fn
                    ]

    def consumers_first(self) -> list[Path]:
        """Return the outputs so that each comes after all that were computed from it."""
        # Reachability is transitive: whoever has fewer consumers is no source of who has more.
        return sorted(self.outputs, key=lambda path: len(self.consumers[path]))

    def inner(self, path: Path, gradients: Mapping[Path, Tensor]) -> Tensor | None:
        """Return what reaches an output through the others, given the gradients at those."""
        chosen = {other: gradients[other] for other in self.consumers[path]}
        value, factor = self._scaled(chosen)
        if value is None:
            return None
        found = torch.autograd.grad(
            value, self.outputs[path], retain_graph=True, materialize_grads=True
        )[0]
        return found.double() * factor

    def vjp(self, gradients: Mapping[Path, Tensor], *, contributions: bool) -> Vjp:
        """Send gradients at the outputs one step back.

        The gradient is sent in the model's dtype at size 1 and scaled back in float64: the
        step is linear in it, and float32 alone would lose a contracting tail.
        """
        value, factor = self._scaled(gradients)
        if value is None:
            return Vjp({}, {}, {})
        wanted: dict[Any, Tensor] = {
            **{("in", path): leaf for path, leaf in self.leaves.items()},
            **{("out", path): tensor for path, tensor in self.outputs.items()},
            **({("w", n): leaf for n, leaf in self.parameters.items()} if contributions else {}),
        }
        found: tuple[Tensor | None, ...] = torch.autograd.grad(
            value, list(wanted.values()), allow_unused=True, retain_graph=True
        )
        result = Vjp({}, {}, {})
        for (kind, key), gradient in zip(wanted, found, strict=True):
            if gradient is None:
                continue
            if kind == "w":
                result.contributions[key] = Scaled(gradient, factor)
            else:
                target = result.entering if kind == "in" else result.totals
                target[key] = gradient.double() * factor
        return result

    def _scaled(self, gradients: Mapping[Path, Tensor]) -> tuple[Tensor | None, float]:
        """Return ⟨outputs, gradients⟩ with the gradients at size 1, and the factor left out.

        Its gradient is the product wanted. torch's own argument for that, ``grad_outputs``,
        imports a computer algebra system on its first use, which takes longer than measuring.
        """
        used = {path: value for path, value in gradients.items() if bool((value != 0).any())}
        if not used:
            return None, 1.0
        peak = max(float(value.abs().amax()) for value in used.values())
        # A power of two, so that scaling rounds nothing.
        factor = max(2.0 ** (math.frexp(peak)[1] - 1), LEAST) if math.isfinite(peak) else 1.0
        with torch.enable_grad():
            products = [
                (self.outputs[path] * (value / factor).to(self.outputs[path].dtype)).sum()
                for path, value in used.items()
            ]
            # Outputs may differ in dtype; the gradient of the cast is the cast of the gradient.
            return torch.stack([product.double() for product in products]).sum(), factor


def learned(module: nn.Module) -> dict[str, Tensor]:
    """Return the floating parameters of a cell by name, cut off all graphs and hooks."""
    return {
        name: parameter.detach()
        for name, parameter in module.named_parameters()
        if parameter.is_floating_point()
    }


def rerun(call: OwnCall) -> Rerun:
    """Run a call again as it was, with its random streams, buffers and attributes.

    To be called inside ``untouched(model)``, which puts back what is set here.

    Raises:
        NotMeasurableError: It failed, or its outputs are not the user's bit for bit.
    """
    for buffer, copy in zip(call.module.buffers(), call.buffers, strict=True):
        if not torch.equal(buffer, copy):
            with torch.no_grad():
                buffer.copy_(copy)
    for part, attributes in call.attributes:
        for name, value in attributes.items():
            if part.__dict__.get(name, call) is not value:
                part.__dict__[name] = value
    if call.streams is not None:
        torch.set_rng_state(call.streams[0])
        if len(call.streams) > 1:
            torch.cuda.set_rng_state(call.streams[1], next(iter(call.values.values())).device)
    leaves, given = _entering(call)
    parameters = {name: value.requires_grad_() for name, value in learned(call.module).items()}
    kind = next(iter(call.values.values())).device.type
    enabled, dtype = call.autocast
    try:
        with torch.enable_grad(), torch.autocast(kind, dtype=dtype, enabled=enabled):
            output = functional_call(call.module, parameters, given[0], given[1])
    except Exception as error:
        raise NotMeasurableError(
            f"running it again failed ({type(error).__name__}: {str(error).splitlines()[0]})"
        ) from error
    found = tensors_in(output)
    outputs = {path: found[path] for path in call.outputs if path in found}
    for path, value in call.values.items():
        if path not in outputs or not _same(outputs[path].detach(), value):
            raise NotMeasurableError(
                "running it again did not give the same output bit for bit: it depends on "
                "something else than what it is called with (another random stream, a counter, a "
                "tensor changed in place)"
            )
    carrying = {path: tensor for path, tensor in outputs.items() if tensor.requires_grad}
    return Rerun(leaves, carrying, parameters)


def _entering(call: OwnCall) -> tuple[dict[Path, Tensor], tuple[Any, Any]]:
    """Cut the inputs off the user's graph; state that entered unchanged carries gradient."""
    entering = {path for paths in call.entering(Link.SAME).values() for path in paths}
    cut: dict[int, Tensor] = {}  # a tensor given twice stays one tensor
    leaves: dict[Path, Tensor] = {}

    def replace(path: Path, tensor: Tensor) -> Tensor:
        own = cut.setdefault(id(tensor), tensor.detach())
        if path in entering and not any(own is leaf for leaf in leaves.values()):
            leaves[path] = own.requires_grad_()
        return own

    args, kwargs = mapped(call.given, replace)
    return leaves, (args, kwargs)


def _same(found: Tensor, expected: Tensor) -> bool:
    """Whether two tensors are equal; a NaN equals a NaN."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    return bool(((found == expected) | (found.isnan() & expected.isnan())).all())


def _nodes(tensor: Tensor) -> set[Any]:
    seen: set[Any] = set()
    frontier = [tensor.grad_fn]
    while frontier:
        node = frontier.pop()
        if node is not None and node not in seen:
            seen.add(node)
            frontier += [after for after, _ in node.next_functions]
    return seen
