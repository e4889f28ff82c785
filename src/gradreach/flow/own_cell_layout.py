"""Which sequence each entry of an own cell's state belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from gradreach.flow.sources.own_calls import OwnCall
from gradreach.flow.sources.tree import Path
from gradreach.records import NonFinite

__all__ = ["Layout", "first_nonfinite"]


@dataclass
class Layout:
    """Which dimension of each state part counts sequences; ``None`` where none does."""

    batch: int
    dims: dict[Path, int | None]

    @classmethod
    def of(cls, call: OwnCall, values: Mapping[Path, Tensor]) -> Layout:
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


def first_nonfinite(
    calls: list[OwnCall], layout: Layout, norms: Tensor, parts: list[Path]
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
