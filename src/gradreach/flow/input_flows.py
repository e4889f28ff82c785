"""How far back the inputs of a sequence module matter, where there is no state to follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gradreach.flow.lag_profile import Probe, Ratios, choose_probes
from gradreach.flow.norms import scaled_norm
from gradreach.flow.sources.inputs import InputCall, SequenceInputs
from gradreach.records import BlindSpot, LayerFlow, NonFinite

__all__ = ["input_flows"]

NOT_OF_STATES = (
    "gradient of the module's inputs, ∂L/∂x_t, not of a state: it says how far back an input still "
    "matters, through whatever path"
)
SHIFTED = "a loss step sees no input of its own step, so that there is no profile relative to lag 0"


@dataclass
class _Followed:
    """What single loss steps saw."""

    ratios: Ratios
    ahead: float = 0.0  # square of the gradient that went to later inputs
    whole: float = 0.0
    beside: bool = False  # whether any of it went to another step than the loss's own


def input_flows(
    inputs: SequenceInputs, loss: Tensor, lag_probes: int | Sequence[int], seed: int
) -> tuple[dict[str, LayerFlow], list[BlindSpot]]:
    """Differentiate the loss, and single loss steps, with respect to each module's inputs.

    To be called before the backward pass: the graph is used, and kept.

    Cost:
        One backward pass from the loss to the modules, then for each module one through it, and
        one more per followed loss step.
    """
    flows: dict[str, LayerFlow] = {}
    blind = [*inputs.blind, *inputs.not_called()]
    counts: dict[str, int] = {}
    for call, arrived in _arriving(inputs.calls, loss, blind):
        counts[call.name] = counts.get(call.name, 0) + 1
        count = counts[call.name]
        axis = call.name if count == 1 else f"{call.name}#{count}"
        try:
            flow = _flow(call, arrived, axis, lag_probes, seed, searched=inputs.searched)
        except RuntimeError as error:  # reentrant checkpointing, a Function used once only, …
            blind.append(_spot(call, f"torch could not differentiate it by its inputs ({error})"))
            continue
        if flow is not None:
            flows[axis] = flow
    return flows, blind


def _spot(call: InputCall, reason: str) -> BlindSpot:
    return BlindSpot(call.name, type(call.module).__name__, reason)


def _arriving(
    calls: list[InputCall], loss: Tensor, blind: list[BlindSpot]
) -> list[tuple[InputCall, Tensor]]:
    """Return the calls that the loss depends on, with the gradient at their outputs."""
    if not calls:
        return []
    found: tuple[Tensor | None, ...] = torch.autograd.grad(
        loss.sum(), [call.result for call in calls], retain_graph=True, allow_unused=True
    )
    reached = []
    for call, gradient in zip(calls, found, strict=True):
        if gradient is None:
            blind.append(_spot(call, "no gradient of the loss reaches it"))
        else:
            reached.append((call, gradient))
    return reached


def _flow(
    call: InputCall,
    arrived: Tensor,
    axis: str,
    lag_probes: int | Sequence[int],
    seed: int,
    *,
    searched: bool,
) -> LayerFlow | None:
    """Return the record of one call; ``None`` where a module that was found mixes no steps."""
    norms = _norms(call, _back(call, arrived))
    entering = (_norms(call, arrived) != 0).any(1).nonzero()[:, 0].tolist()  # true of NaN
    candidates = [Probe(0, call.steps - 1 - step, step) for step in entering]
    chosen = choose_probes(candidates, lag_probes, seed)
    followed = _follow(call, arrived, chosen)
    if searched and chosen and not followed.beside:
        return None
    batch = norms.shape[1]
    profile = followed.ratios.profile()
    notes = [NOT_OF_STATES]
    if chosen and not bool(followed.ratios.at_zero.any()):
        notes.append(SHIFTED)
    if followed.ahead > 0:
        share = followed.ahead / followed.whole
        notes.append(f"it looks ahead: {share:.0%} of a loss step's gradient goes to later inputs")
    features = call.rows(call.given).shape[-1]
    return LayerFlow(
        name=axis,
        module=call.name,
        kind=type(call.module).__name__,
        source="inputs",
        dtype=str(call.given.dtype).removeprefix("torch."),
        reverse=False,
        hidden_size=features,
        lengths=np.full(batch, call.steps, dtype=np.int64),
        state_gradient_norms=_array(scaled_norm(norms) / batch**0.5),
        per_sample=_array(norms),
        contributions={},
        shares={},
        closure_error={},
        closure_reference={},
        outside_gradient={},
        lag_profile=_array(profile),
        own_lag_profile=_array(profile),
        lag_probes=tuple(probe.step for probe in chosen),
        loss_steps=tuple(entering),
        saturation=np.zeros(0),
        dead=np.zeros(0, dtype=np.bool_),
        gates={},
        constant_tails=np.full(batch, call.steps, dtype=np.int64),
        tail_gradient_share=float("nan"),
        nonfinite=_first_nonfinite(call, norms),
        notes=tuple(notes),
    )


def _back(call: InputCall, gradient: Tensor) -> Tensor:
    """Take a gradient of the output to the input, through this module alone."""
    found: tuple[Tensor | None, ...] = torch.autograd.grad(
        call.result, call.given, gradient, retain_graph=True, allow_unused=True
    )
    return torch.zeros_like(call.given) if found[0] is None else found[0]


def _norms(call: InputCall, values: Tensor) -> Tensor:
    return scaled_norm(call.rows(values.detach())).cpu()  # (T, B)


def _follow(call: InputCall, arrived: Tensor, probes: list[Probe]) -> _Followed:
    found = _Followed(Ratios.empty(call.steps))
    for probe in probes:
        norms = _norms(call, _back(call, call.at_step(arrived, probe.step)))
        found.ratios.add(norms, torch.full((norms.shape[1],), probe.step))
        peak = float(norms.max()) or 1.0
        squares = (norms / peak).square().sum(1)
        found.ahead += float(squares[probe.step + 1 :].sum())
        found.whole += float(squares.sum())
        own = float(squares[probe.step])
        found.beside |= bool((squares != 0).sum() > (own != 0))
    return found


def _first_nonfinite(call: InputCall, norms: Tensor) -> NonFinite | None:
    """Return where the module first met a NaN or infinity, the cause before its effects."""
    for name, parameter in call.module.named_parameters():
        if not bool(parameter.isfinite().all()):
            return NonFinite(f"weight {name}", -1, -1)
    for where, values in (("input", call.given), ("state", call.result)):
        bad = ~call.rows(values.detach()).isfinite().all(-1)
        if bool(bad.any()):
            step, row = map(int, bad.nonzero()[0])
            return NonFinite(where, step, row)
    bad = ~norms.isfinite()
    if bool(bad.any()):
        step, row = map(int, bad.nonzero()[-1])
        return NonFinite("gradient", step, row)
    return None


def _array(values: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return values.detach().double().cpu().numpy()
