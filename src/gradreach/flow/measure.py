"""Measures the exact gradient flow through time of a user's own model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gradreach.errors import NotMeasurableError
from gradreach.flow.analyse import analyse
from gradreach.flow.backward import run_backward
from gradreach.flow.find import Found, class_name, find_recurrent
from gradreach.flow.input_flows import input_flows
from gradreach.flow.own_cell_flows import own_cell_flows
from gradreach.flow.sources.inputs import SequenceInputs, Which
from gradreach.flow.sources.own_cells import OwnCells
from gradreach.flow.sources.recorder import Recorder
from gradreach.flow.untouched import untouched
from gradreach.records import BlindSpot, GradientFlow
from gradreach.records.gradient_flow import Layers

__all__ = ["measure"]


def measure(
    model: nn.Module,
    closure: Callable[[], Tensor],
    *,
    cells: Sequence[str] | None = None,
    inputs: Which = False,
    lag_probes: int | Sequence[int] = 8,
    seed: int = 0,
) -> GradientFlow:
    """Measure how far back in time the gradient of a model's loss reaches.

    Finds the recurrent layers of the unmodified model (``nn.RNN``, ``nn.GRU``, ``nn.LSTM`` and
    loops over their cells or cells of the user's own), runs ``closure`` once with a backward
    pass, and returns for each layer the gradient at every time step, every step's contribution
    to the weight gradients, and how much of a single loss step's gradient is left ℓ steps back.
    Parameters, ``.grad``, buffers, modes, hooks, ``requires_grad`` and random streams are
    afterwards exactly what they were, also when ``closure`` raises.

    Args:
        model: The model, as it is trained.
        closure: Runs one forward pass and returns the scalar loss, without calling backward.
        cells: Names of own cells in the model (``["encoder.cell"]``): modules called once per
            step that take and return their state, as a tensor or in a tuple, list, dict or
            dataclass. Left out, they are found where calls pass their outputs on.
        inputs: Modules that map a sequence to a sequence without a state to follow (a causal
            transformer, a convolution, a state-space layer): names, or names with the dimension
            that counts time (``{"mixer": 1}``), or ``True`` for the outermost that are found.
            Their record holds ∂L/∂x_t of their inputs; its ``exact`` is False.
        lag_probes: How many loss steps to follow for the lag profile (all if there are fewer),
            or the very steps, counted from 0; 0 leaves the profile out.
        seed: Chooses the loss steps to follow where there are more; no global stream is used.

    Returns:
        A :class:`gradreach.GradientFlow`; ``print`` it, or see ``flow.layers["rnn"]``.

    Raises:
        TypeError: ``model`` is no module, ``closure`` no function or its result no tensor.
        NotMeasurableError: Nothing could be measured; the message says why and what to do.
        ValueError: ``lag_probes`` is negative, or names steps without loss; ``cells`` or
            ``inputs`` names no module.

    Cost:
        The forward and backward pass, then per layer about three to eight times its own:
        one replay, one float64 reverse scan, and one more scan per followed loss step.
        Memory of the order of the training step's own; the record holds gradients and states
        in the model's dtype (a float64 scale beside each vector of gradient), from which
        ``layer.jacobian``, ``layer.lyapunov``, ``layer.sensitivity`` and ``layer.conditions``
        are computed when they are first asked for (``flow.jacobian_cost()`` tells the cost).
        An own cell is run again step by step: per step two forward passes of the cell, one to
        three backward passes and one more per followed loss step; memory of its parameters
        times the number of steps.

    Reference:
        Pascanu, Mikolov & Bengio (2013), section 2.1 and equations 3-5. arXiv:1211.5063.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> rnn, x = nn.RNN(3, 16, batch_first=True), torch.randn(4, 50, 3)
        >>> flow = measure(rnn, lambda: rnn(x)[0][:, -1].square().mean())
        >>> flow.layers["rnn"].reach(0.01) < 50
        True
        >>> float(flow.layers["rnn"].shares["weight_hh_l0"].sum().round(12))
        1.0
    """
    _check_arguments(model, closure, lag_probes)
    found = find_recurrent(model)
    own, sequences = OwnCells(model, cells), SequenceInputs(model, inputs)
    if not found.watched and not own.names and inputs is False:
        raise NotMeasurableError(_nothing_found(model, found))
    started = time.perf_counter()
    with untouched(model), Recorder(found.watched) as recorder, own:
        with torch.enable_grad():
            with sequences:
                loss = _run(closure)
            own.choose()
            if not found.watched and not own.calls and not own.blind and inputs is False:
                raise NotMeasurableError(_nothing_found(model, found))
            _check_pass(recorder, loss)
            by_input, unseen = input_flows(sequences, loss, lag_probes, seed)
            gradients = run_backward(recorder, loss, own)
        blind = _not_called(recorder, found) + own.blind
        passed = time.perf_counter()
        own_layers, failed = own_cell_flows(own.calls, gradients, lag_probes, seed)
    layers, more = analyse(recorder.calls, gradients, lag_probes, seed)
    layers = Layers({**layers, **own_layers, **by_input})
    blind += failed + more + unseen
    if not layers:
        reasons = "; ".join(map(str, blind)) or "no layer received gradient from the loss"
        raise NotMeasurableError(f"measure(): no recurrent layer could be measured: {reasons}")
    return GradientFlow(
        layers=layers,
        blind=tuple(blind),
        loss=float(loss.detach()),
        notes=_notes(loss),
        meta={
            "torch": torch.__version__,
            "pass_seconds": passed - started,
            "analysis_seconds": time.perf_counter() - passed,
        },
    )


def _check_arguments(model: Any, closure: Any, lag_probes: Any) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(
            "measure(): argument 'model' must be a torch.nn.Module; got "
            f"{type(model).__name__}: pass the model itself, not its output or parameters"
        )
    if not callable(closure):
        raise TypeError(
            "measure(): argument 'closure' must be a function without arguments that returns the "
            f"loss; got {type(closure).__name__}: write measure(model, lambda: loss_of(model(x)))"
        )
    if isinstance(lag_probes, int) and lag_probes < 0:
        raise ValueError(
            f"measure(): argument 'lag_probes' must be a number of loss steps or a list of them; "
            f"got {lag_probes}: leave it out for 8"
        )
    for name, parameter in model.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise NotMeasurableError(
                f"measure(): argument 'model' has a lazy parameter without a shape, {name!r}: run "
                "one forward pass first"
            )
        if parameter.device.type == "meta":
            raise NotMeasurableError(
                f"measure(): argument 'model' has no data: parameter {name!r} is on the device "
                "'meta': load its weights first"
            )


def _nothing_found(model: nn.Module, found: Found) -> str:
    if found.blind:
        listed = "; ".join(map(str, found.blind))
        return f"measure(): no recurrent layer of 'model' can be measured: {listed}"
    inside = sorted({type(module).__name__ for module in model.modules()})
    shown = ", ".join(inside[:8]) + (", …" if len(inside) > 8 else "")
    return (
        "measure(): argument 'model' has no recurrent layer (nn.RNN, nn.GRU, nn.LSTM or their "
        f"cells); it is made of {shown}: pass the module that holds the recurrent layer"
    )


def _run(closure: Callable[[], Tensor]) -> Tensor:
    try:
        loss = closure()
    except Exception as error:
        error.add_note(
            "gradreach.measure(): raised by 'closure'; model and random streams are restored"
        )
        raise
    if not isinstance(loss, Tensor):
        raise TypeError(
            f"measure(): argument 'closure' must return the loss, a scalar tensor; it returned "
            f"{type(loss).__name__}: end it with `return loss`"
        )
    if loss.numel() != 1 or not loss.is_floating_point():
        raise TypeError(
            f"measure(): argument 'closure' must return a scalar loss; it returned a tensor of "
            f"shape {tuple(loss.shape)} and dtype {str(loss.dtype).removeprefix('torch.')}: reduce "
            "it with .mean() or .sum()"
        )
    return loss


def _check_pass(recorder: Recorder, loss: Tensor) -> None:
    """Refuse a pass whose backward would not be measure()'s own, or would reach nothing."""
    if any(arrival.passes for call in recorder.calls for arrival in call.arrivals()):
        raise NotMeasurableError(
            "measure(): 'closure' ran backward itself (or differentiated through the layers): "
            "return the loss and leave the backward pass to measure()"
        )
    if not loss.requires_grad:
        raise NotMeasurableError(
            "measure(): the loss that 'closure' returned carries no gradient: remove no_grad, "
            "inference_mode, .detach() or .item() from it, or unfreeze the model"
        )
    empty = [call for call in recorder.calls if call.batch == 0]
    if empty:
        raise NotMeasurableError(
            f"measure(): {empty[0].name} was called with an empty batch (B = 0): pass at least one "
            "sequence"
        )


def _not_called(recorder: Recorder, found: Found) -> list[BlindSpot]:
    """Return the modules that left no usable call."""
    called = {call.name for call in recorder.calls}
    blind = list(found.blind)
    for module, name in found.watched.items():
        if name in called:
            continue
        reason = recorder.failures.get(name)
        if reason is None and name in recorder.without_graph:
            reason = "it was called where no gradient is recorded (no_grad, or all inputs frozen)"
        blind.append(BlindSpot(name, class_name(module), reason or "'closure' did not call it"))
    return blind


def _notes(loss: Tensor) -> tuple[str, ...]:
    if bool(loss.detach().isfinite()):
        return ()
    return (f"the loss is {float(loss.detach())}: look at each layer's `nonfinite`",)
