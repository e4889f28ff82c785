"""From the recorded calls of own cells to the records of their gradient flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradreach.errors import NotMeasurableError
from gradreach.flow.lag_profile import Probe, Ratios, choose_probes
from gradreach.flow.norms import scaled_norm
from gradreach.flow.own_cell_layout import Layout, first_nonfinite
from gradreach.flow.own_cell_scan import OwnScan, follow, own_scan
from gradreach.flow.own_cell_terms import Closure, MeasuredChain, closures, kept, summed
from gradreach.flow.sources.links import Link
from gradreach.flow.sources.own_calls import OwnCall, own_chains
from gradreach.flow.sources.tree import Path
from gradreach.records import BlindSpot, LayerFlow
from gradreach.records.own_tensors import OwnCellTensors

__all__ = ["own_cell_flows"]

FED = (
    "something computed from its output is fed back as an input of the next step: state gradients "
    "and contributions include that path, the lag profile is that of the state alone"
)
CHANGED = (
    "the state is changed between steps (masked, normalised), so that no lag profile can follow "
    "it; state gradients and contributions are exact"
)


def own_cell_flows(
    calls: Mapping[str, list[OwnCall]],
    gradients: dict[int, Tensor | None],
    lag_probes: int | Sequence[int],
    seed: int,
) -> tuple[dict[str, LayerFlow], list[BlindSpot]]:
    """Turn the calls of own cells into records, one per cell and time axis.

    To be called inside ``untouched(model)``: the cells are run again.

    Args:
        gradients: By ``id`` of a parameter, the gradient the user's backward pass sent to it.

    Cost:
        Per step one forward and one to a few backward passes of the cell, then one more forward
        and one backward per followed loss step; memory of all steps' contributions, steps times
        the size of the cell's parameters.
    """
    measured: list[MeasuredChain] = []
    blind: list[BlindSpot] = []
    for name, own in calls.items():
        kind = type(own[0].module).__name__
        try:
            measured += _chains(name, own)
        except NotMeasurableError as error:
            blind.append(BlindSpot(name, kind, str(error)))
    closed = closures(measured, gradients)
    flows: dict[str, LayerFlow] = {}
    for each in measured:
        flows[each.axis] = _layer_flow(each, closed, gradients, lag_probes, seed)
    return flows, blind


def _chains(name: str, calls: list[OwnCall]) -> list[MeasuredChain]:
    chains = [chain for chain in own_chains(calls) if any(call.reached for call in chain.calls)]
    if not chains:
        raise NotMeasurableError("no gradient of the loss reaches it")
    parts = max((chain.parts for chain in chains), key=len)
    found = []
    for position, chain in enumerate(chains):
        axis = name if position == 0 else f"{name}#{position + 1}"
        scan = own_scan(chain, chain.parts or parts)
        found.append(MeasuredChain(name, axis, scan, summed(scan)))
    return found


def _layer_flow(
    each: MeasuredChain,
    closed: dict[int, Closure],
    gradients: dict[int, Tensor | None],
    lag_probes: int | Sequence[int],
    seed: int,
) -> LayerFlow:
    scan, calls = each.scan, each.scan.chain.calls
    layout = Layout.of(calls[-1], {path: calls[-1].values[path] for path in scan.parts})
    owned = dict(calls[0].module.named_parameters())
    stacked = _stacked(scan, layout)
    norms = _norms(list(stacked.values()))  # (T, B)
    candidates = [Probe(0, len(calls) - 1 - step, step) for step in scan.loss_steps]
    notes, chosen = _notes(each, owned, gradients), []
    profile: NDArray[np.float64] = np.zeros(0)
    if scan.chain.steps_after(Link.TRANSFORMED):
        notes.append(CHANGED)
    else:
        chosen = choose_probes(candidates, lag_probes, seed)
        profile = _profile(scan, layout, chosen)
    closure = {name: closed[id(owned[name])] for name in each.terms}
    names = _part_names(scan.parts)
    first = calls[0].values[scan.parts[0]]
    return LayerFlow(
        name=each.axis,
        module=each.module,
        kind=type(calls[0].module).__name__,
        source="cells",
        dtype=str(first.dtype).removeprefix("torch."),
        reverse=False,
        hidden_size=sum(part.shape[-1] for part in stacked.values()),
        lengths=np.full(layout.batch, len(calls), dtype=np.int64),
        state_gradient_norms=_array(scaled_norm(norms) / layout.batch**0.5),
        per_sample=_array(norms),
        contributions={name: terms.norms for name, terms in each.terms.items()},
        shares={name: terms.shares for name, terms in each.terms.items()},
        closure_error={n: c.error for n, c in closure.items() if c.error is not None},
        closure_reference={name: own.reference for name, own in closure.items()},
        outside_gradient={name: own.outside for name, own in closure.items()},
        lag_profile=profile,
        own_lag_profile=profile,
        lag_probes=tuple(probe.step for probe in chosen),
        loss_steps=tuple(scan.loss_steps),
        saturation=np.zeros(0),
        dead=np.zeros(0, dtype=np.bool_),
        gates={},
        constant_tails=np.full(layout.batch, len(calls), dtype=np.int64),
        tail_gradient_share=float("nan"),
        detached_steps=scan.chain.steps_after(Link.DETACHED),
        transformed_steps=scan.chain.steps_after(Link.TRANSFORMED),
        nonfinite=first_nonfinite(calls, layout, norms, scan.parts),
        notes=tuple(notes),
        tensors=OwnCellTensors(
            {names[path]: _array(part) for path, part in stacked.items()}, kept(each)
        ),
    )


def _notes(
    each: MeasuredChain, owned: dict[str, Any], gradients: dict[int, Tensor | None]
) -> list[str]:
    """Return what the reader must know to read the record rightly."""
    notes = [FED] if any(call.fed for call in each.scan.chain.calls) else []
    for name, parameter in owned.items():
        gradient = gradients.get(id(parameter))
        if name not in each.terms and gradient is not None and bool((gradient != 0).any()):
            notes.append(
                f"{name} receives gradient only through something computed before the step, so "
                "that it has no contributions here"
            )
    return notes


def _stacked(scan: OwnScan, layout: Layout) -> dict[Path, Tensor]:
    """Return each state part's gradient, ``(T, B, H_part)`` float64."""
    shapes = {path: scan.chain.calls[-1].values[path] for path in scan.parts}
    return {
        path: torch.stack([
            layout.rows(path, step[path] if path in step
                        else torch.zeros_like(shapes[path], dtype=torch.float64))
            for step in scan.totals
        ])
        for path in scan.parts
    }  # fmt: skip


def _norms(parts: list[Tensor]) -> Tensor:
    return scaled_norm(torch.stack([scaled_norm(part) for part in parts], -1))


def _profile(scan: OwnScan, layout: Layout, probes: list[Probe]) -> NDArray[np.float64]:
    steps = len(scan.chain.calls)
    ratios = Ratios.empty(steps)
    for probe, found in zip(probes, follow(scan, probes), strict=True):
        norms = torch.zeros(steps, layout.batch, dtype=torch.float64)
        for step, parts in enumerate(found):
            if parts:
                rows = [layout.rows(path, part) for path, part in parts.items()]
                norms[step] = _norms(rows).cpu()
        ratios.add(norms, torch.full((layout.batch,), probe.step))
    return _array(ratios.profile())


def _part_names(parts: list[Path]) -> dict[Path, str]:
    """Name the parts of the state: ``h`` where there is one, else by key, else counted."""
    if len(parts) == 1:
        return {parts[0]: "h"}
    keys = [path[-1] for path in parts]
    if all(isinstance(key, str) for key in keys) and len(set(keys)) == len(keys):
        return {path: str(key) for path, key in zip(parts, keys, strict=True)}
    return {path: str(place) for place, path in enumerate(parts)}


def _array(values: Tensor) -> NDArray[np.float64]:
    return values.detach().double().cpu().numpy()
