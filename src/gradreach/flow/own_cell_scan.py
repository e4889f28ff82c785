"""Sends gradients backwards through the calls of an own cell, one step at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradreach.errors import NotMeasurableError
from gradreach.flow.lag_profile import Probe
from gradreach.flow.own_cell_rerun import Rerun, Scaled, rerun
from gradreach.flow.sources.links import Link
from gradreach.flow.sources.own_calls import OwnCall, OwnChain
from gradreach.flow.sources.tree import Path
from gradreach.kernels.unexplained import ROUNDING, unexplained

__all__ = ["OwnScan", "follow", "own_scan"]


@dataclass
class OwnScan:
    """A chain after the scan of the user's own gradient, by step.

    Args:
        totals: By state part, its total gradient, float64, shaped as the part.
        outside: By output, what no next step and no other output of its call explains.
        contributions: By parameter, each step's term of its gradient.
        disagreement: ‖total - captured‖² and ‖captured‖², summed over steps and parts.
    """

    chain: OwnChain
    parts: list[Path]
    totals: list[dict[Path, Tensor]]
    outside: list[dict[Path, Tensor]]
    contributions: list[dict[str, Scaled]]
    disagreement: tuple[float, float]

    @property
    def loss_steps(self) -> list[int]:
        """The steps at which gradient enters from outside."""
        return [step for step, parts in enumerate(self.outside) if parts]


def own_scan(chain: OwnChain, parts: list[Path]) -> OwnScan:
    """Split the captured gradients of a chain into flow and arrivals, the last step first.

    Args:
        parts: The outputs that are state.

    Raises:
        NotMeasurableError: A call could not be run again, or its states cannot be measured.
    """
    _check(chain, parts)
    steps = len(chain.calls)
    totals: list[dict[Path, Tensor]] = [{} for _ in range(steps)]
    outside: list[dict[Path, Tensor]] = [{} for _ in range(steps)]
    contributions: list[dict[str, Scaled]] = [{} for _ in range(steps)]
    flow: dict[Path, Tensor] = {}
    differing, captured = 0.0, 0.0
    for step in reversed(range(steps)):
        call = chain.calls[step]
        again = rerun(call)
        gradients, outside[step] = _arrived(call, again, flow)
        sent = again.vjp(gradients, contributions=True)
        contributions[step] = sent.contributions
        for path in parts:
            if path not in call.values:
                continue
            total = sent.totals.get(path)
            if total is None:
                total = torch.zeros_like(call.values[path], dtype=torch.float64)
            totals[step][path] = total
            if path in again.outputs:
                arrived = _captured(call, path)
                differing += float((total - arrived).square().sum())
                captured += float(arrived.square().sum())
        flow = _flow(call, sent.entering)
    return OwnScan(chain, parts, totals, outside, contributions, (differing, captured))


def follow(scan: OwnScan, probes: list[Probe]) -> list[list[dict[Path, Tensor]]]:
    """Follow what enters at single loss steps; return their state gradients, by probe and step.

    Cost:
        One more run of the cell a step, and one backward of it per probe.
    """
    steps = len(scan.chain.calls)
    found: list[list[dict[Path, Tensor]]] = [[{} for _ in range(steps)] for _ in probes]
    flows: list[dict[Path, Tensor]] = [{} for _ in probes]
    last = max((probe.step for probe in probes), default=-1)
    for step in reversed(range(last + 1)):
        call = scan.chain.calls[step]
        again = rerun(call)
        for place, probe in enumerate(probes):
            if probe.step == step:
                gradients = scan.outside[step]
            elif flows[place]:
                gradients = {p: g for p, g in flows[place].items() if p in again.outputs}
            else:
                continue
            sent = again.vjp(gradients, contributions=False)
            found[place][step] = {path: sent.totals[path] for path in scan.parts
                                  if path in sent.totals}  # fmt: skip
            flows[place] = _flow(call, sent.entering)
    return found


def _arrived(
    call: OwnCall, again: Rerun, flow: dict[Path, Tensor]
) -> tuple[dict[Path, Tensor], dict[Path, Tensor]]:
    """Return the gradient at each output but for paths inside the call, and its outside part."""
    gradients: dict[Path, Tensor] = {}
    outside: dict[Path, Tensor] = {}
    for path in again.consumers_first():
        total = _captured(call, path)
        own = flow.get(path)
        own = torch.zeros_like(total) if own is None else own
        inner = again.inner(path, gradients)
        explained = own if inner is None else own + inner
        entered = unexplained(_rows(total), _rows(explained), ROUNDING[call.values[path].dtype])
        entered = entered.view(total.shape)
        gradients[path] = own + entered
        if bool((entered != 0).any()):
            outside[path] = entered
    return gradients, outside


def _captured(call: OwnCall, path: Path) -> Tensor:
    gradient = call.arrivals[path].gradient
    if gradient is None:
        return torch.zeros_like(call.values[path], dtype=torch.float64)
    return gradient.double()


def _flow(call: OwnCall, entering: dict[Path, Tensor]) -> dict[Path, Tensor]:
    """Return the gradient that reaches the outputs of the call before, as its state."""
    flow: dict[Path, Tensor] = {}
    for source, paths in call.entering(Link.SAME).items():
        for path in paths:
            if path in entering:
                flow[source] = flow[source] + entering[path] if source in flow else entering[path]
    return flow


def _rows(values: Tensor) -> Tensor:
    """Lay out one sequence a row; a state without batch is one row."""
    return values.reshape(len(values), -1) if values.dim() > 1 else values.reshape(1, -1)


def _check(chain: OwnChain, parts: list[Path]) -> None:
    shapes: dict[Path, torch.Size] = {}
    for call in chain.calls:
        for path, value in call.values.items():
            if value.dtype not in ROUNDING:
                found = str(value.dtype).removeprefix("torch.")
                raise NotMeasurableError(
                    f"its outputs are {found}; float32 and float64 are measured"
                )
            if path in parts and shapes.setdefault(path, value.shape) != value.shape:
                raise NotMeasurableError(
                    f"its state changes shape from step to step, from {tuple(shapes[path])} to "
                    f"{tuple(value.shape)}"
                )
        lost = [arrival.lost for arrival in call.arrivals.values() if arrival.lost]
        if lost:
            raise NotMeasurableError(f"its gradient could not be copied ({lost[0]})")
        if any(arrival.second_order for arrival in call.arrivals.values()):
            raise NotMeasurableError(
                "the loss contains a gradient of a gradient (create_graph), whose path through "
                "time is not measured"
            )
