"""From recorded calls and their gradients to the records of all layers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from gradreach.errors import NotMeasurableError
from gradreach.flow.assemble import Swept, layer_flows, swept
from gradreach.flow.closure import Closure, check_closure
from gradreach.flow.find import class_name
from gradreach.flow.sources.calls import FusedCall, RecordedCall
from gradreach.flow.sources.cells import cells_track
from gradreach.flow.sources.fused import fused_track
from gradreach.flow.sources.links import chains_of
from gradreach.records import BlindSpot, LayerFlow
from gradreach.records.gradient_flow import Layers

__all__ = ["analyse"]


def analyse(
    calls: Sequence[RecordedCall],
    gradients: dict[int, Tensor | None],
    lag_probes: int | Sequence[int],
    seed: int,
) -> tuple[Layers, list[BlindSpot]]:
    """Turn the calls of one pass into records, module by module.

    Args:
        gradients: By ``id`` of a weight, the gradient this backward pass sent to it.

    Returns:
        The layers measured, and the modules that turned out not to be measurable.
    """
    by_module: dict[str, list[RecordedCall]] = {}
    for call in calls:
        # A recomputation under checkpointing whose graph was never differentiated is a copy.
        if call.reached or not call.in_backward:
            by_module.setdefault(call.name, []).append(call)
    layers: dict[str, LayerFlow] = {}
    blind: list[BlindSpot] = []
    for name, own in by_module.items():
        kind = class_name(own[0].module)
        lost = [arrival.lost for call in own for arrival in call.arrivals() if arrival.lost]
        if lost:
            blind.append(BlindSpot(name, kind, f"its gradient could not be copied ({lost[0]})"))
            continue
        if not any(call.reached for call in own):
            blind.append(BlindSpot(name, kind, "no gradient of the loss reaches it"))
            continue
        try:
            layers |= _module_flows(name, own, gradients, lag_probes, seed)
        except NotMeasurableError as error:
            blind.append(BlindSpot(name, kind, str(error)))
    return Layers(layers), blind


def _module_flows(
    name: str,
    calls: list[RecordedCall],
    gradients: dict[int, Tensor | None],
    lag_probes: int | Sequence[int],
    seed: int,
) -> dict[str, LayerFlow]:
    """Return the records of one module's layers, one set per time axis.

    Raises:
        NotMeasurableError: The replay or its sum did not agree with torch's.
    """
    if any(arrival.second_order for call in calls for arrival in call.arrivals()):
        raise NotMeasurableError(
            "the loss contains a gradient of a gradient (create_graph), whose path through time "
            "is not measured"
        )
    results: list[Swept] = []
    # A chain no gradient reaches is another use of the layer: an evaluation, say.
    chains = [chain for chain in chains_of(calls) if any(call.reached for call in chain.calls)]
    for position, chain in enumerate(chains):
        axis = name if position == 0 else f"{name}#{position + 1}"
        track = fused_track if isinstance(calls[0], FusedCall) else cells_track
        results.append(swept(track(chain, axis), gradients))
    checked = check_closure(results, gradients)
    if checked.failed:
        raise NotMeasurableError(_not_closed(checked))
    flows: dict[str, LayerFlow] = {}
    for result in results:
        flows |= layer_flows(result, name, checked.fields(), lag_probes, seed)
    return flows


def _not_closed(checked: Closure) -> str:
    worst = checked.failed[0]
    error = checked.closure_error.get(worst, float("nan"))
    return (
        f"the contributions of the steps do not add up to the gradient of {worst} (relative error "
        f"{error:.1e}), nor to that of torch's own backward of the layer"
    )
