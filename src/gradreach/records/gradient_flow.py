"""Gradient flow through time of a whole model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import fill
from typing import TYPE_CHECKING, Any

from gradreach.display.html import page_fragment
from gradreach.display.table import Row, render_table
from gradreach.records.jacobian_cost import JacobianCost
from gradreach.records.layer_flow import LayerFlow
from gradreach.records.parts import BlindSpot
from gradreach.records.plain import check_schema

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["GradientFlow", "Layers"]

SCHEMA_VERSION = 1
LAYER_SUFFIX = re.compile(r"\.l\d+(_reverse)?$")


class Layers(Mapping[str, LayerFlow]):
    """Layers by name; ``"rnn"`` stands for ``"rnn.l0"`` where a module has one layer only."""

    def __init__(self, layers: Mapping[str, LayerFlow]) -> None:
        self._layers = dict(layers)
        short: dict[str, list[str]] = {}
        for name in self._layers:
            short.setdefault(LAYER_SUFFIX.sub("", name), []).append(name)
        self._aliases = {alias: names[0] for alias, names in short.items() if len(names) == 1}

    def __getitem__(self, name: str) -> LayerFlow:
        if name in self._layers:
            return self._layers[name]
        if name in self._aliases:
            return self._layers[self._aliases[name]]
        raise KeyError(f"no layer {name!r} was measured; there is {', '.join(self._layers)}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def __repr__(self) -> str:
        return f"Layers({list(self._layers)})"


@dataclass(frozen=True, eq=False, kw_only=True)
class GradientFlow:
    """What one forward and backward pass of a model said about its past.

    Attributes:
        layers: One :class:`LayerFlow` per recurrent layer and direction, by name.
        blind: Recurrent modules that were not measured, with the reason.
        loss: Value of the loss.
        notes: What else the reader should know, one sentence each.
        meta: Versions and seconds, as measured.
    """

    layers: Layers
    blind: tuple[BlindSpot, ...] = ()
    loss: float
    notes: tuple[str, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.table()

    def table(self, width: int = 80) -> str:
        """Return the flow as a text table of at most ``width`` columns.

        Columns: how far back the gradient reaches (lag at which less than 1 % is left), its
        factor per step, and the lag profile as a sparkline from lag 0 on, logarithmic.
        """
        rows = [_row(name, layer) for name, layer in self.layers.items()]
        remarks = [f"not measured: {spot}" for spot in self.blind]
        remarks += [f"{name}: {note}" for name, own in self.layers.items() for note in own.notes]
        told = [
            fill(remark, width, subsequent_indent="  ", break_on_hyphens=False)
            for remark in [*remarks, *self.notes]
        ]
        return "\n".join([render_table(rows, width), *told])

    def plot(self, layers: Sequence[str] | None = None) -> Figure:
        """Return a figure, a row a layer: lag profile with the reach, contributions, ‖∂L/∂s‖.

        It is made and returned, not shown: ``figure.savefig("flow.pdf")``.

        Args:
            layers: Names of the layers to draw, six at most; by default all of them.

        Raises:
            MissingExtraError: matplotlib is not installed.
            ValueError: No layer, or more than fit one figure.
            KeyError: A name is none of the measured layers.
        """
        from gradreach.records.flow_figure import flow_figure

        chosen = self.layers if layers is None else {name: self.layers[name] for name in layers}
        return flow_figure(chosen, "`flow.plot()`")

    def _repr_html_(self) -> str:
        rows = [_row(name, layer) for name, layer in self.layers.items()]
        curves = {name: layer.lag_profile for name, layer in self.layers.items()}
        remarks = [f"not measured: {spot}" for spot in self.blind] + list(self.notes)
        return page_fragment(rows, curves, remarks)

    def jacobian_cost(self) -> dict[str, JacobianCost]:
        """Return by layer what its Jacobians, exponents and conditions would cost; ``print`` it.

        Raises:
            LookupError: The record was loaded: there are no states to compute them from.
        """
        return {name: layer.jacobian_cost() for name, layer in self.layers.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain data, without the large arrays of the layers."""
        return {
            "record": "GradientFlow",
            "schema_version": SCHEMA_VERSION,
            "layers": {name: layer.to_dict() for name, layer in self.layers.items()},
            "blind": [spot.to_dict() for spot in self.blind],
            "loss": self.loss,
            "notes": list(self.notes),
            "meta": dict(self.meta),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> GradientFlow:
        """Undo :meth:`to_dict`.

        Raises:
            SchemaError: The data is of another record or schema version.
        """
        check_schema(plain, "GradientFlow", SCHEMA_VERSION)
        return cls(
            layers=Layers({n: LayerFlow.from_dict(layer) for n, layer in plain["layers"].items()}),
            blind=tuple(BlindSpot(**spot) for spot in plain["blind"]),
            loss=plain["loss"],
            notes=tuple(plain["notes"]),
            meta=dict(plain["meta"]),
        )


def _row(name: str, layer: LayerFlow) -> Row:
    reach = layer.reach()
    longest = len(layer.lag_profile)
    if reach is None:
        told = "–"
    else:
        told = f"all {longest}" if reach >= longest else f"{reach} of {longest}"
    return Row(name, f"{layer.kind} {layer.hidden_size}", layer.steps, told,
               layer.decay_per_step, layer.lag_profile)  # fmt: skip
