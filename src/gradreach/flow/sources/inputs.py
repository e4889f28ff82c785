"""Cuts the graph open at the input and output of modules that map a sequence to a sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gradreach.flow.sources.hooks import HeldHooks
from gradreach.records import BlindSpot

__all__ = ["InputCall", "SequenceInputs", "Which", "found_in"]

Which = bool | Sequence[str] | Mapping[str, int]
"""``False``, ``True`` (find them), names, or names with the dimension that counts time."""

# Modules that treat every step alone, whatever their weights: no use looking for a past there.
STEP_BY_STEP = (
    nn.Linear, nn.Bilinear, nn.Identity, nn.LayerNorm, nn.Embedding, nn.Dropout, nn.Flatten,
    nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.LeakyReLU, nn.ELU, nn.GLU,
)  # fmt: skip
RECURRENT = (nn.RNNBase, nn.RNNCellBase)


@dataclass(eq=False)
class InputCall:
    """One call of a module: aliases of its input and output, through which all gradient goes.

    Args:
        time, batch: Dimension that counts steps, and sequences (``None``: a single one).
    """

    name: str
    module: nn.Module
    given: Tensor
    result: Tensor
    time: int
    batch: int | None

    @property
    def steps(self) -> int:
        """T."""
        return self.given.shape[self.time]

    def rows(self, values: Tensor) -> Tensor:
        """Lay out a tensor shaped as the input, or the output, as ``(T, B, features)``."""
        if self.batch is None:
            return values.movedim(self.time, 0).flatten(1)[:, None]
        return values.movedim((self.time, self.batch), (0, 1)).flatten(2)

    def at_step(self, gradient: Tensor, step: int) -> Tensor:
        """Return a gradient of the output with everything but one step set to zero."""
        single = torch.zeros_like(gradient)
        single.select(self.time, step).copy_(gradient.select(self.time, step))
        return single


class SequenceInputs(HeldHooks):
    """Context in which calls of the chosen modules are cut open.

    The module is given an alias of its input and the caller an alias of its output, so that
    ``∂output/∂input`` is what goes through this module alone, whatever else uses either.

    Args:
        model: The user's model.
        which: The modules; with ``True``, the outermost that take a floating-point sequence and
            return one of as many steps, without recurrent layers of torch inside.

    Attributes:
        calls: What was recorded. blind: chosen modules that cannot be measured, with reasons.
        searched: Whether the modules were to be found; those that turn out to treat every step
            alone are then of no interest.

    Raises:
        ValueError: A name is none of a module, or a dimension no number.
    """

    def __init__(self, model: nn.Module, which: Which) -> None:
        super().__init__()
        self.searched = which is True
        self.calls: list[InputCall] = []
        self.blind: list[BlindSpot] = []
        self._names, self._dims = _chosen(model, which)
        self._open: list[tuple[nn.Module, Tensor | None, int]] = []  # …, calls known before
        self._met: set[nn.Module] = set()

    def __enter__(self) -> SequenceInputs:
        if self._names:
            self.start()
        return self

    def start(self) -> None:
        """Set the hooks."""
        hooks = torch.nn.modules.module
        self._handles = [
            hooks.register_module_forward_pre_hook(self._before),  # type: ignore[arg-type]
            hooks.register_module_forward_hook(self._after, with_kwargs=True, always_call=True),
        ]

    def not_called(self) -> list[BlindSpot]:
        """Return the modules that were named and left no call."""
        if self.searched:
            return []
        known = {spot.module for spot in self.blind} | {call.name for call in self.calls}
        return [
            BlindSpot(name, type(module).__name__, "'closure' did not call it")
            for module, name in self._names.items()
            if name not in known
        ]

    def _before(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if module not in self._names or torch.compiler.is_compiling():
            return None
        place = next((i for i, value in enumerate(args) if _is_sequence(value)), None)
        if place is None or not torch.is_grad_enabled():
            self._open.append((module, None, len(self.calls)))
            return None
        given = args[place]
        # A view keeps the values where they are; one of raw data is made a leaf of its own.
        alias = given.view_as(given) if given.requires_grad else given.detach().requires_grad_()
        self._open.append((module, alias, len(self.calls)))
        # Everywhere it stands: attention asks whether query, key and value are one tensor.
        return tuple(alias if value is given else value for value in args)

    def _after(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> Any:
        if not self._open or self._open[-1][0] is not module:
            return None
        _, given, known = self._open.pop()
        if given is None:
            self._say(module, "it was given no floating-point sequence as a positional argument "
                      "while gradients are recorded")  # fmt: skip
            return None
        first = output[0] if isinstance(output, tuple | list) and output else output
        layout = self._layout(module, given, first)
        if isinstance(layout, str):
            self._say(module, layout)
            return None
        alias = first.view_as(first)
        if self.searched:  # the outermost is wanted, and that it is one shows only now
            del self.calls[known:]
        self.calls.append(InputCall(self._names[module], module, given, alias, *layout))
        if isinstance(output, tuple) and hasattr(output, "_replace"):
            return type(output)(alias, *output[1:])
        return type(output)([alias, *output[1:]]) if first is not output else alias

    def _say(self, module: nn.Module, reason: str) -> None:
        if self.searched or module in self._met:
            return
        self._met.add(module)
        self.blind.append(BlindSpot(self._names[module], type(module).__name__, reason))

    def _layout(
        self, module: nn.Module, given: Tensor, output: Any
    ) -> tuple[int, int | None] | str:
        """Return the dimensions of time and batch, or why they are not known."""
        if not _is_sequence(output):
            return "it returns no floating-point sequence (first, where it returns several things)"
        if not output.requires_grad:
            return "its output carries no gradient (no_grad, or everything in it is frozen)"
        dims = self._dims.get(module)
        time, batch = _usual(module, given.dim()) if dims is None else _named_dim(dims, given.dim())
        if output.dim() != given.dim():
            return f"it turns {given.dim()} dimensions into {output.dim()}"
        if output.shape[time] != given.shape[time]:
            return (
                f"it returns {output.shape[time]} steps for {given.shape[time]} (dimension {time} "
                "was taken for time: name another one with inputs={name: dimension})"
            )
        if batch is not None and output.shape[batch] != given.shape[batch]:
            return f"it returns {output.shape[batch]} sequences for {given.shape[batch]}"
        return time, batch


def found_in(model: nn.Module) -> dict[nn.Module, str]:
    """Return the modules of a model that may map a sequence to a sequence, with their names."""
    return {
        module: path or type(module).__name__.lower()
        for path, module in model.named_modules()
        if not isinstance(module, STEP_BY_STEP)
        and not isinstance(module, torch.jit.ScriptModule)
        and not any(isinstance(part, RECURRENT) for part in module.modules())
    }


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.dim() in (2, 3)


def _chosen(model: nn.Module, which: Which) -> tuple[dict[nn.Module, str], dict[nn.Module, int]]:
    modules = dict(model.named_modules())
    if isinstance(which, bool):
        if not which:
            return {}, {}
        return found_in(model), {}
    if isinstance(which, str):
        raise TypeError(
            f"measure(): argument 'inputs' must be True, a list of module names or a dict of them; "
            f"got the string {which!r}: write inputs=[{which!r}]"
        )
    names: dict[nn.Module, str] = {}
    for name in which:
        if name not in modules:
            known = ", ".join(repr(path) for path in modules if path) or "none"
            raise ValueError(
                f"measure(): argument 'inputs' names {name!r}, which is no module of 'model'; it "
                f"has {known}"
            )
        names[modules[name]] = name or type(modules[name]).__name__.lower()
    dims = {modules[name]: dim for name, dim in which.items()} if isinstance(which, Mapping) else {}
    for dim in dims.values():
        if type(dim) is not int:
            raise TypeError(
                "measure(): argument 'inputs' must give the dimension that counts time as a "
                f"number; got {dim!r}: write inputs={{name: 1}} for (batch, time, features)"
            )
    return names, dims


def _named_dim(time: int, dims: int) -> tuple[int, int | None]:
    """Take the first of the other dimensions for the batch, where there are three."""
    time %= dims
    return time, None if dims == 2 else (1 if time == 0 else 0)


def _usual(module: nn.Module, dims: int) -> tuple[int, int | None]:
    """Return the dimensions of time and batch as torch's own layers have them."""
    if isinstance(_first_weighted(module), nn.Conv1d | nn.ConvTranspose1d):
        return dims - 1, None if dims == 2 else 0
    if dims == 2:
        return 0, None
    said = [part.batch_first for part in module.modules() if hasattr(part, "batch_first")]
    return (0, 1) if said and not any(said) else (1, 0)


def _first_weighted(module: nn.Module) -> nn.Module:
    """Return what a plain sequence of modules begins with; other modules may transpose first."""
    while isinstance(module, nn.Sequential):
        weighted = [part for part in module if next(part.parameters(), None) is not None]
        if not weighted:
            break
        module = weighted[0]
    return module
