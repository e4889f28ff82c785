"""Many tensors as one vector: norms and directions that neither underflow nor overflow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from gradreach.kernels.native import rows

__all__ = ["Number", "cosine", "distance", "flat", "local", "norm", "settle", "unit"]

Number = float | Tensor  # a tensor of one number that is still to be fetched from its device

TINY, HUGE = 1e-140, 1e140  # beyond these the squares of float64 numbers are lost


def local(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that this process holds: no collective call is ever ours.

    Example:
        >>> local(torch.ones(2))
        tensor([1., 1.])
    """
    part = getattr(tensor, "to_local", None)  # a DTensor of FSDP or tensor parallelism
    found: Tensor = tensor if part is None else part()
    if found.layout is not torch.strided:
        found = found.to_dense()  # an embedding with sparse=True
    return torch.view_as_real(found) if found.is_complex() else found


def flat(tensors: Sequence[Tensor], like: Tensor | None = None) -> Tensor:
    """Return a copy of all entries as one vector, in float32 or, where one has it, float64.

    Shape:
        returns: ``(N,)``, on the device of the first tensor.

    Args:
        like: A vector whose type and device the result is to have.

    Example:
        >>> flat([torch.ones(2, 2), torch.zeros(1, dtype=torch.bfloat16)])
        tensor([1., 1., 1., 1., 0.])
    """
    parts = [local(tensor.detach()).reshape(-1) for tensor in tensors]
    if not parts:
        return torch.zeros(0)
    dtype, device = (like.dtype, like.device) if like is not None else _home(parts)
    if len(parts) == 1:
        return parts[0].to(device, dtype, copy=True)
    return torch.cat([part.to(device, dtype) for part in parts])


def _home(parts: Iterable[Tensor]) -> tuple[torch.dtype, torch.device]:
    parts = list(parts)
    wide = any(part.dtype is torch.float64 for part in parts)
    return (torch.float64 if wide else torch.float32), parts[0].device


def norm(vector: Tensor) -> Number:
    """Return the 2-norm, in float64; a number at once on the CPU.

    Example:
        >>> norm(torch.full((1000,), 1e-23))
        3.16...e-22
    """
    if not vector.numel():
        return 0.0
    if (native := rows.distance(vector, None)) is not None:
        return native
    plain = torch.linalg.vector_norm(vector, dtype=torch.float64)
    if vector.is_cpu:
        found = float(plain)
        if TINY < found < HUGE or vector.dtype is not torch.float64:
            return found
        return float(_scaled(vector))
    return plain if vector.dtype is not torch.float64 else _scaled(vector)


def _scaled(vector: Tensor) -> Tensor:
    peak = vector.abs().amax()
    scale = torch.where((peak > 0) & peak.isfinite(), peak, 1.0)
    found: Tensor = torch.linalg.vector_norm(vector / scale) * scale
    return found


def distance(one: Tensor, other: Tensor) -> Number:
    """Return the norm of the difference.

    Example:
        >>> distance(torch.tensor([4.0, 1.0]), torch.tensor([1.0, 5.0]))
        5.0
    """
    native = rows.distance(one, other)
    return norm(one - other) if native is None else native


def cosine(one: Tensor, other: Tensor) -> Number:
    """Return the product of two directions, as :func:`unit` returns them.

    Example:
        >>> cosine(torch.tensor([1.0, 0.0]), torch.tensor([0.6, 0.8]))
        0.6000000238418579
    """
    found = torch.dot(one, other)
    return float(found) if found.is_cpu else found


def unit(vector: Tensor, length: Number) -> Tensor:
    """Return the direction; NaN throughout where there is none.

    Example:
        >>> unit(torch.tensor([3.0, 4.0]), 5.0)
        tensor([0.6000, 0.8000])
    """
    if isinstance(length, Tensor):
        return vector / length.to(vector.dtype)
    return vector / (length or float("nan"))


def settle(numbers: Mapping[str, Number]) -> dict[str, float]:
    """Return all as numbers; those on a device come in one transfer.

    Example:
        >>> settle({"loss": torch.tensor(2.0), "passes": 1.0})
        {'passes': 1.0, 'loss': 2.0}
    """
    found = {name: each for name, each in numbers.items() if not isinstance(each, Tensor)}
    waiting = {name: each for name, each in numbers.items() if isinstance(each, Tensor)}
    if waiting:
        device = next((each.device for each in waiting.values() if not each.is_cpu), None)
        parts = [each.detach().reshape(()).to(device, torch.float64) for each in waiting.values()]
        found |= zip(waiting, torch.stack(parts).tolist(), strict=True)
    return found
