"""Records the calls of users' own cells during one forward pass, and finds which they are."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gradreach.errors import NotMeasurableError
from gradreach.flow.sources.hooks import HeldHooks
from gradreach.flow.sources.own_calls import OwnCall, ties_between
from gradreach.flow.sources.place import Place
from gradreach.flow.sources.tree import mapped, tensors_in
from gradreach.records import BlindSpot

__all__ = ["OwnCells", "candidates", "streams"]

RECURRENT = (nn.RNNBase, nn.RNNCellBase)
TAILS = 64  # sequences that may run through one cell side by side; keeps other modules cheap


class OwnCells(HeldHooks):
    """Context in which calls of modules that may be cells are recorded.

    Args:
        model: The user's model.
        declared: Names of the cells; ``None`` to find them: modules of the user's own classes,
            without recurrent layers of torch inside, whose calls pass their outputs on.

    Attributes:
        calls: By name, the calls of the chosen cells, once :meth:`choose` was called.
        blind: Modules that look like cells and cannot be measured.

    Raises:
        ValueError: A declared name is none of a module.
    """

    def __init__(self, model: nn.Module, declared: Sequence[str] | None) -> None:
        super().__init__()
        self.names = candidates(model) if declared is None else _named(model, declared)
        self.declared = declared is not None
        self.calls: dict[str, list[OwnCall]] = {}
        self.blind: list[BlindSpot] = []
        self._seen: dict[nn.Module, list[OwnCall]] = {}
        self._tails: dict[nn.Module, deque[OwnCall]] = {}
        self._without_graph: set[nn.Module] = set()
        self._failures: dict[nn.Module, str] = {}
        self._entered: list[tuple[nn.Module, dict[str, Any]]] = []

    def __enter__(self) -> OwnCells:
        if self.names:
            self.start()
        return self

    def start(self) -> None:
        """Set the hooks."""
        hooks = torch.nn.modules.module
        self._handles = [
            hooks.register_module_forward_pre_hook(self._before),
            hooks.register_module_forward_hook(self._after, with_kwargs=True),
        ]

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All parameters of the chosen cells."""
        found = {
            id(parameter): parameter
            for calls in self.calls.values()
            for parameter in calls[0].module.parameters()
        }
        return list(found.values())

    def inputs(self) -> list[Tensor]:
        """Return the inputs of all calls of the chosen cells that carry gradient."""
        return [
            tensor
            for calls in self.calls.values()
            for call in calls
            for tensor in call.inputs.values()
            if tensor.requires_grad
        ]

    def choose(self) -> None:
        """End the recording, choose the cells among what was seen and watch their outputs.

        Raises:
            NotMeasurableError: A declared cell was not called, or passed no state on.
        """
        self.close()
        cells = {m: calls for m, calls in self._seen.items() if _passes_on(calls)}
        if self.declared:
            for module, name in self.names.items():
                self._insist(module, name, cells)
        for module in self._failures.keys() - cells.keys() if self.declared else ():
            self._say(module, self._failures[module])
        for module, calls in cells.items():
            if not self.declared and _inside_another(module, cells):
                continue
            if (reason := self._failures.get(module) or _why_not(module)) is not None:
                self._say(module, reason)
                continue
            self.calls[self.names[module]] = calls
            for call in calls:
                call.watch()
        self._seen.clear()
        self._tails.clear()

    def _say(self, module: nn.Module, reason: str) -> None:
        self.blind.append(BlindSpot(self.names[module], type(module).__name__, reason))

    def _insist(self, module: nn.Module, name: str, cells: dict[nn.Module, list[OwnCall]]) -> None:
        """Raise where a declared cell is none."""
        if module in cells or module in self._failures:
            return
        said = f"measure(): argument 'cells' names {name!r}, "
        if module in self._without_graph:
            raise NotMeasurableError(
                said + "which was called where no gradient is recorded (no_grad, reentrant "
                "checkpointing): call it with gradients on, or checkpoint with use_reentrant=False"
            )
        if module in self._seen:
            raise NotMeasurableError(
                said + "none of whose outputs entered its next call: name the module that takes "
                "and returns the state, as a tensor or in a tuple, list, dict or dataclass"
            )
        raise NotMeasurableError(
            said + "which 'closure' did not call: run it as module(...), not by another of "
            "its methods, or name the module that is called"
        )

    def _before(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if torch.compiler.is_compiling():
            return  # torch.compile traces hooks, too; this one must not get into its program
        if module not in self.names or torch._C._current_graph_task_id() != -1:
            return  # what checkpointing recomputes inside a backward pass is a copy
        inputs = tensors_in(args)
        device = next((tensor.device for tensor in inputs.values()), torch.device("cpu"))
        if device.type == "meta":
            return  # only shapes are asked for, as Keras does of every layer
        self._entered.append((module, {
            "args": mapped(args, lambda _, tensor: tensor),
            "versions": {path: tensor._version for path, tensor in inputs.items()},
            "streams": streams(device),
            "buffers": self._buffers(module),
            "attributes": [
                (part, {k: v for k, v in part.__dict__.items() if not k.startswith("_")})
                for part in module.modules()
            ],
            "autocast": (
                torch.is_autocast_enabled(device.type), torch.get_autocast_dtype(device.type),
            ),
        }))  # fmt: skip

    def _buffers(self, module: nn.Module) -> list[Tensor]:
        """Copy the buffers, sharing the copy of the call before where nothing has changed."""
        earlier = self._seen.get(module, [])
        copies = earlier[-1].buffers if earlier else []
        buffers = list(module.buffers())
        if len(copies) == len(buffers) and all(map(torch.equal, copies, buffers)):
            return copies
        return [buffer.detach().clone() for buffer in buffers]

    def _after(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        if torch.compiler.is_compiling():
            return
        if module not in self.names or torch._C._current_graph_task_id() != -1:
            return
        while self._entered:
            entered, found = self._entered.pop()
            if entered is module:
                break
        else:
            return
        try:
            self._record(module, found, kwargs, output)
        except Exception as error:  # noqa: BLE001  the user's pass goes on, the module is blind
            self._failures[module] = (
                f"its call could not be recorded ({type(error).__name__}: {error})"
            )

    def _record(
        self, module: nn.Module, found: dict[str, Any], kwargs: dict[str, Any], output: Any
    ) -> None:
        args = found["args"]
        versions = {path: tensor._version for path, tensor in tensors_in(args).items()}
        if versions != found["versions"]:
            self._failures[module] = "it changes its input in place"
        given = (args, mapped(kwargs, lambda _, tensor: tensor))
        inputs = tensors_in(given)
        outputs = _made(inputs, output)
        if not outputs:
            self._without_graph.add(module)
            return
        device = next(iter(outputs.values())).device
        before: tuple[Tensor, ...] = found["streams"]
        now = streams(device)
        drew = len(now) != len(before) or not all(map(torch.equal, now, before))
        call = OwnCall(
            name=self.names[module],
            module=module,
            given=given,
            inputs=inputs,
            outputs=outputs,
            values={path: tensor.detach().clone() for path, tensor in outputs.items()},
            streams=before if drew else None,
            buffers=found["buffers"],
            attributes=found["attributes"],
            autocast=found["autocast"],
        )
        for path, tensor in outputs.items():
            if (place := Place.of(tensor)) is not None:
                call.places[path] = place
        tails = self._tails.setdefault(module, deque(maxlen=TAILS))
        for earlier in reversed(tails):
            if ties := ties_between(earlier, call):
                call.before = (earlier, ties)
                tails.remove(earlier)
                break
        tails.append(call)
        self._seen.setdefault(module, []).append(call)


def streams(device: torch.device) -> tuple[Tensor, ...]:
    """Return the states of torch's random streams that a call on a device may draw from."""
    if device.type == "cuda":
        return torch.get_rng_state(), torch.cuda.get_rng_state(device)
    return (torch.get_rng_state(),)


def _made(inputs: dict[Any, Tensor], output: Any) -> dict[Any, Tensor]:
    """Return the floating outputs on the graph, each once, without those handed through."""
    given = {id(tensor) for tensor in inputs.values()}
    made: dict[tuple[int, int], Any] = {}
    found = {}
    for path, tensor in tensors_in(output).items():
        if tensor.grad_fn is None or not tensor.is_floating_point() or id(tensor) in given:
            continue
        if made.setdefault((id(tensor.grad_fn), tensor.output_nr), path) == path:
            found[path] = tensor
    return found


def _passes_on(calls: list[OwnCall]) -> bool:
    return any(call.before is not None for call in calls)


def _inside_another(module: nn.Module, cells: dict[nn.Module, list[OwnCall]]) -> bool:
    """Whether a cell is part of another that is called as often, or else loops over one itself.

    Of cells inside one another the outermost counts; but a module that holds the loop over a
    cell and hands the state from one stretch of the sequence to the next is no cell itself.
    """
    own = len(cells[module])
    for other, calls in cells.items():
        if other is module:
            continue
        if module in set(other.modules()) and len(calls) >= own:
            return True
        if other in set(module.modules()) and len(calls) > own:
            return True
    return False


def _why_not(module: nn.Module) -> str | None:
    for part in module.modules():
        if isinstance(part, torch.jit.ScriptModule):
            return "scripted modules cannot be run again step by step; pass the module as written"
        if _compiled(part):
            return "cells compiled with torch.compile cannot be run again step by step"
    return None


def candidates(model: nn.Module) -> dict[nn.Module, str]:
    """Return the modules that may be cells: of users' classes, without torch's own layers."""
    names: dict[nn.Module, str] = {}
    inside: set[nn.Module] = set()
    for path, module in model.named_modules():
        if module in inside:
            continue
        compiled = _compiled(module)
        if isinstance(module, RECURRENT) or (compiled and module is not model):
            inside |= set(module.modules())
        torchs = type(module).__module__.startswith("torch.nn.") or (compiled and module is model)
        if not torchs and not _holds_recurrent(module):
            names[module] = path or type(module).__name__.lower()
    return names


def _compiled(module: nn.Module) -> bool:
    # By name: asking torch._dynamo for the class would import the whole compiler.
    return type(module).__name__ == "OptimizedModule"


def _holds_recurrent(module: nn.Module) -> bool:
    return any(isinstance(part, RECURRENT) for part in module.modules())


def _named(model: nn.Module, declared: Sequence[str]) -> dict[nn.Module, str]:
    if isinstance(declared, str):
        raise TypeError(
            "measure(): argument 'cells' must be a list of names of modules; got the string "
            f"{declared!r}: write cells=[{declared!r}]"
        )
    modules = dict(model.named_modules())
    names: dict[nn.Module, str] = {}
    for name in declared:
        if name not in modules:
            known = [path for path in modules if path]
            listed = ", ".join(known[:8]) + (", …" if len(known) > 8 else "")
            raise ValueError(
                f"measure(): argument 'cells' names {name!r}, but 'model' has no such module; it "
                f"has {listed or 'no modules inside'}"
            )
        names[modules[name]] = name or type(modules[name]).__name__.lower()
    return names
