"""From the recorded calls of own cells to the records of their gradient flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradreach.errors import NotMeasurableError
from gradreach.flow.closure import TOLERANCE, relative_error
from gradreach.flow.lag_profile import Probe, Ratios, choose_probes
from gradreach.flow.norms import scaled_norm, total_norm
from gradreach.flow.own_cell_rerun import Scaled
from gradreach.flow.own_cell_scan import OwnScan, follow, own_scan
from gradreach.flow.sources.links import Link
from gradreach.flow.sources.own_calls import OwnCall, own_chains
from gradreach.flow.sources.tree import Path
from gradreach.records import BlindSpot, LayerFlow, NonFinite
from gradreach.records.own_tensors import OwnCellTensors

__all__ = ["own_cell_flows"]

LARGEST = 512 * 2**20  # bytes of contribution matrices kept in a record
FED = (
    "something computed from its output is fed back as an input of the next step: state gradients "
    "and contributions include that path, the lag profile is that of the state alone"
)
CHANGED = (
    "the state is changed between steps (masked, normalised), so that no lag profile can follow "
    "it; state gradients and contributions are exact"
)


@dataclass
class _Terms:
    """The contributions of one chain to one parameter, summed up."""

    total: Tensor
    norms: NDArray[np.float64]
    shares: NDArray[np.float64]


@dataclass
class _Measured:
    """One chain of one cell."""

    module: str
    axis: str
    scan: OwnScan
    terms: dict[str, _Terms] = field(default_factory=dict)


@dataclass
class _Layout:
    """Which dimension of each state part counts sequences; ``None`` where none does."""

    batch: int
    dims: dict[Path, int | None]

    @classmethod
    def of(cls, call: OwnCall, values: Mapping[Path, Tensor]) -> _Layout:
        """Take the sequences to be counted by the first dimension of the cell's first input."""
        state = {
            path for paths in (call.before[1].values() if call.before else ()) for path in paths
        }
        given = [
            tensor for path, tensor in call.inputs.items() if path not in state and tensor.dim()
        ]
        first = next(iter(values.values()))
        alone = all(value.dim() < 2 for value in values.values())
        if alone and not (given and given[0].dim() > 1):
            return cls(1, dict.fromkeys(values))
        batch = len(given[0]) if given else len(first)
        dims: dict[Path, int | None] = {}
        for path, value in values.items():
            found = [dim for dim, size in enumerate(value.shape[:2]) if size == batch]
            if not found:
                return cls(1, dict.fromkeys(values))
            dims[path] = found[0]
        return cls(batch, dims)

    def rows(self, path: Path, value: Tensor) -> Tensor:
        """Lay a part out as ``(B, H_part)``."""
        dim = self.dims[path]
        return (
            value.reshape(1, -1)
            if dim is None
            else value.movedim(dim, 0).flatten(1).view(self.batch, -1)
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
    measured: list[_Measured] = []
    blind: list[BlindSpot] = []
    for name, own in calls.items():
        kind = type(own[0].module).__name__
        try:
            measured += _chains(name, own)
        except NotMeasurableError as error:
            blind.append(BlindSpot(name, kind, str(error)))
    closure = _closures(measured, gradients)
    flows: dict[str, LayerFlow] = {}
    for each in measured:
        flows[each.axis] = _layer_flow(each, closure, gradients, lag_probes, seed)
    return flows, blind


def _chains(name: str, calls: list[OwnCall]) -> list[_Measured]:
    chains = [chain for chain in own_chains(calls) if any(call.reached for call in chain.calls)]
    if not chains:
        raise NotMeasurableError("no gradient of the loss reaches it")
    parts = max((chain.parts for chain in chains), key=len)
    found = []
    for position, chain in enumerate(chains):
        axis = name if position == 0 else f"{name}#{position + 1}"
        scan = own_scan(chain, chain.parts or parts)
        found.append(_Measured(name, axis, scan, _summed(scan)))
    return found


def _summed(scan: OwnScan) -> dict[str, _Terms]:
    """Sum up each parameter's contributions, with norms and shares."""
    names = dict.fromkeys(name for step in scan.contributions for name in step)
    found = {}
    for name in names:
        steps = [step.get(name) for step in scan.contributions]
        some = next(term.value for term in steps if term is not None)
        total = torch.zeros_like(some, dtype=torch.float64)
        for term in steps:
            if term is not None:
                total += term.double()
        norms = [0.0 if term is None else float(total_norm(term.value)) * term.factor
                 for term in steps]  # fmt: skip
        found[name] = _Terms(total, np.array(norms), _shares(steps, total))
    return found


def _shares(steps: list[Scaled | None], total: Tensor) -> NDArray[np.float64]:
    """Return ⟨c_k, Σc⟩/‖Σc‖²; NaN where the sum is 0."""
    norm = float(total_norm(total))
    if norm == 0.0:
        return np.full(len(steps), np.nan)
    unit = total / norm
    return np.array(
        [0.0 if term is None
         else float((term.value.double() * unit).sum()) * (term.factor / norm)
         for term in steps]
    )  # fmt: skip


@dataclass
class _Closure:
    error: float | None
    reference: str
    outside: float


def _closures(
    measured: list[_Measured], gradients: dict[int, Tensor | None]
) -> dict[int, _Closure]:
    """Compare, over all cells that share a parameter, Σ_k c_k with the gradient torch computed.

    A remainder is gradient that reaches the parameter outside the recorded calls. What is left
    to check then is that the state gradients are those of the user's backward pass.
    """
    sums: dict[int, Tensor] = {}
    tensors: dict[int, Tensor] = {}
    strayed: dict[int, float] = {}
    for each in measured:
        owned = dict(each.scan.chain.calls[0].module.named_parameters())
        difference, captured = each.scan.disagreement
        astray = (difference / captured) ** 0.5 if captured > 0 else float(difference > 0)
        for name, terms in each.terms.items():
            key = id(owned[name])
            tensors[key] = owned[name]
            sums[key] = sums[key] + terms.total if key in sums else terms.total
            strayed[key] = max(strayed.get(key, 0.0), astray)
    found: dict[int, _Closure] = {}
    for key, total in sums.items():
        gradient = gradients.get(key)
        error = None if gradient is None else relative_error(_matrix(total), _matrix(gradient))
        tolerance = TOLERANCE.get(tensors[key].dtype, 1e-3)
        finite = gradient is None or bool(gradient.isfinite().all())
        if error is not None and (error <= tolerance or not finite):
            found[key] = _Closure(error, "backward", 0.0)
        else:
            found[key] = _Closure(strayed[key], "replay", error or 0.0)
    return found


def _matrix(values: Tensor) -> Tensor:
    return values.reshape(len(values), -1) if values.dim() else values.reshape(1, 1)


def _layer_flow(
    each: _Measured,
    closures: dict[int, _Closure],
    gradients: dict[int, Tensor | None],
    lag_probes: int | Sequence[int],
    seed: int,
) -> LayerFlow:
    scan, calls = each.scan, each.scan.chain.calls
    layout = _Layout.of(calls[-1], {path: calls[-1].values[path] for path in scan.parts})
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
    closure = {name: closures[id(owned[name])] for name in each.terms}
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
        nonfinite=_first_nonfinite(calls, layout, norms, scan.parts),
        notes=tuple(notes),
        tensors=OwnCellTensors(
            {names[path]: _array(part) for path, part in stacked.items()}, _kept(each)
        ),
    )


def _notes(
    each: _Measured, owned: dict[str, Any], gradients: dict[int, Tensor | None]
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


def _stacked(scan: OwnScan, layout: _Layout) -> dict[Path, Tensor]:
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


def _profile(scan: OwnScan, layout: _Layout, probes: list[Probe]) -> NDArray[np.float64]:
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


def _kept(each: _Measured) -> dict[str, list[tuple[NDArray[Any], float]]] | None:
    """Return the contributions as the record keeps them, unless they are too large."""
    steps = each.scan.contributions
    size = sum(t.value.numel() * t.value.element_size() for step in steps for t in step.values())
    if size > LARGEST:
        return None
    return {
        name: [
            (step[name].value.cpu().numpy(), step[name].factor) if name in step
            else (np.zeros(tuple(terms.total.shape)), 1.0)
            for step in steps
        ]
        for name, terms in each.terms.items()
    }  # fmt: skip


def _first_nonfinite(
    calls: list[OwnCall], layout: _Layout, norms: Tensor, parts: list[Path]
) -> NonFinite | None:
    """Return where the cell first met a NaN or infinity, the cause before its effects."""
    for name, parameter in calls[0].module.named_parameters():
        if not bool(parameter.isfinite().all()):
            return NonFinite(f"weight {name}", -1, -1)
    for step, call in enumerate(calls):
        for tensor in call.inputs.values():
            if tensor.is_floating_point() and (row := _bad_row(tensor, layout.batch)) is not None:
                return NonFinite("input", step, row)
        for path in parts:
            if path in call.values:
                row = _bad_row(layout.rows(path, call.values[path]), layout.batch)
                if row is not None:
                    return NonFinite("state", step, row)
    bad = ~norms.isfinite()
    if bool(bad.any()):
        step, row = map(int, bad.nonzero()[-1])
        return NonFinite("gradient", step, row)
    return None


def _bad_row(values: Tensor, batch: int) -> int | None:
    """Return the first sequence with a NaN or infinity."""
    bad = ~values.isfinite()
    if not bool(bad.any()):
        return None
    place = bad.nonzero()[0]
    return int(place[0]) if values.dim() and len(values) == batch else 0


def _array(values: Tensor) -> NDArray[np.float64]:
    return values.detach().double().cpu().numpy()
