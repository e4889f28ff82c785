"""Records the calls of recurrent modules during one forward pass.

Only torch's *global* module hooks are used: a hook on the user's own module would be
saved with it and make ``torch.load(weights_only=True)`` of the whole model fail.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from gradreach.flow.sources.arrival import Arrival
from gradreach.flow.sources.calls import CellCall, FusedCall, RecordedCall, state_parts
from gradreach.flow.sources.hooks import HeldHooks
from gradreach.flow.sources.links import Tails
from gradreach.flow.sources.place import Place
from gradreach.kernels.native.remembering import Forward, forget, remember
from gradreach.kernels.tape import Replayable, ReplayableCell, SplitsState

__all__ = ["Recorder"]


CELL_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class Recorder(HeldHooks):
    """Context in which calls of the given modules are recorded.

    Args:
        modules: The modules to watch, with the name each has in the model.

    Attributes:
        calls: What was recorded, in call order.
        without_graph: Names of modules called where no gradient is recorded, with a count.
        failures: Names of modules whose call could not be recorded, with the reason. An
            exception of ours never reaches the user's forward pass.
        on_recorded: Called with each call right after it, in the user's forward pass.
        on_reached: Called with a call each time a backward pass reaches one of its tensors.
    """

    def __init__(self, modules: MutableMapping[nn.Module, str]) -> None:
        super().__init__()
        self.modules = modules
        self.calls: list[RecordedCall] = []
        self.tails = Tails()
        self.without_graph: dict[str, int] = {}
        self.failures: dict[str, str] = {}
        self.in_backward = False
        self.on_recorded: Callable[[RecordedCall], None] | None = None
        self.on_reached: Callable[[RecordedCall], None] | None = None
        self._streams: dict[nn.Module, Tensor | None] = {}
        self._forwards: dict[nn.Module, list[Forward]] = {}

    def __enter__(self) -> Recorder:
        module_hooks = torch.nn.modules.module
        self._handles = [
            module_hooks.register_module_forward_pre_hook(self._before),
            module_hooks.register_module_forward_hook(self._after, with_kwargs=True),
        ]
        return self

    def close(self) -> None:
        """Stop recording; what was recorded stays."""
        super().close()
        self._streams.clear()
        self._forwards.clear()
        forget()

    def _before(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if module not in self.modules or not isinstance(module, nn.RNNBase):
            return
        draws = module.training and module.dropout > 0 and module.num_layers > 1
        self._streams[module] = torch.get_rng_state() if draws else None
        if isinstance(module, Replayable):
            self._forwards[module] = remember()

    def _after(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        if module not in self.modules:
            return
        name = self.modules[module]
        forwards = self._forwards.pop(module, [])
        forget()
        try:
            # Also where there is nothing to look at: tensors of inference mode have no version.
            if _sequence(module, output).grad_fn is None:
                self._streams.pop(module, None)
                self.without_graph[name] = self.without_graph.get(name, 0) + 1
                return
            call = self._record(module, name, args, kwargs, output)
            if isinstance(call, FusedCall) and forwards:
                call.forwards, call.versions = forwards, call.current_versions()
        except Exception as error:  # noqa: BLE001  the user's pass goes on, the module is blind
            self.failures[name] = (
                f"its call could not be recorded ({type(error).__name__}: {error})"
            )
            return
        self.tails.tie(call)
        self.calls.append(call)
        if self.on_recorded is not None:
            self.on_recorded(call)
        if self.on_reached is not None:
            for arrival in call.arrivals():
                arrival.first = partial(self.on_reached, call)

    def _record(
        self, module: nn.Module, name: str, args: Any, kwargs: dict[str, Any], output: Any
    ) -> RecordedCall:
        inputs = args[0] if args else kwargs["input"]
        state = args[1] if len(args) > 1 else kwargs.get("hx")
        returned = output[1] if isinstance(module, nn.RNNBase) else output
        if isinstance(module, SplitsState):
            state, returned = module.split_state(state), module.split_state(returned)
        entering, leaving = state_parts(state), state_parts(returned)
        sequence = _sequence(module, output)
        shared: dict[str, Any] = {
            "name": name,
            "module": module,
            "inputs": inputs,
            "entering": entering,
            "entering_versions": tuple(part._version for part in entering),
            "leaving": tuple(part.detach() for part in leaving),
            "leaving_versions": tuple(part._version for part in leaving),
            "leaving_places": tuple(Place.of(part) for part in leaving),
            "state_arrivals": tuple(Arrival(part) for part in leaving),
            "in_backward": self.in_backward,
            "autocast": _autocast_of(sequence.device.type),
        }
        if isinstance(module, nn.RNNBase):
            return FusedCall(
                **shared,
                output=sequence.detach().clone(),
                output_place=Place.of(sequence),
                output_arrival=Arrival(sequence),
                weights=_weights_of(module),
                rng_state=self._streams.pop(module, None),
            )
        return CellCall(
            **shared,
            values=tuple(part.detach().clone() for part in leaving),
            weights=tuple(module.used_weights())
            if isinstance(module, ReplayableCell)
            else tuple(getattr(module, name) for name in CELL_WEIGHTS),
        )


def _autocast_of(device: str) -> torch.dtype | None:
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None


def _weights_of(module: nn.RNNBase) -> list[Tensor]:
    """Return what a fused call computed with: our own layers have more than torch's weights."""
    if isinstance(module, Replayable):
        return module.used_weights()
    return [weight for weight in module._flat_weights if weight is not None]


def _sequence(module: nn.Module, output: Any) -> Tensor:
    """Return what tells whether a call is on the graph: the output, or a cell's new state."""
    if not isinstance(module, nn.RNNBase):
        return state_parts(output)[0]
    data: Tensor = output[0].data if isinstance(output[0], PackedSequence) else output[0]
    return data
