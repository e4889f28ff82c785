"""Contributions to what our own layers learn beside torch's weights, and to mirrored weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gradreach.flow.contributions import Contribution
from gradreach.flow.norms import scaled_norm, total_norm
from gradreach.flow.scaled import Scaled
from gradreach.flow.stretches import stretches
from gradreach.flow.track import Track
from gradreach.kernels.equations.extended import activation_shift, fresh_states
from gradreach.kernels.tape import Tape

__all__ = ["learned_terms", "mirrored_contribution", "summed"]

Read = Callable[[int, int], Tensor]  # (start, stop) -> (K, B, …) float64


def learned_terms(
    track: Track, place: tuple[int, int], hidden: Scaled, cell: Scaled | None
) -> dict[str, Tensor]:
    """Return each step's term of the gradient of the parameters beside torch's, by name.

    A step's term for ``scale`` is Σ_b δh_t ⊙ u_t, for a carry Σ_b δh_t ⊙ h_{t-s}, and for the
    activation's bias Σ_b of the gradient at φ times ∂φ/∂b; the chain rule brings it to the
    parameter.

    Shape:
        returns: ``(T, *shape of the parameter)`` float64.
    """
    tapes = track.tapes(*place)
    extension = tapes[0].extension
    assert extension is not None
    numbers: dict[str, Tensor] = {}
    for number in {own.number for own in extension.learned}:
        numbers[number] = _number_terms(number, track, tapes, hidden, cell)
    return {own.name: own.pull(numbers[own.number]) for own in extension.learned}


def _number_terms(
    number: str, track: Track, tapes: list[Tape], hidden: Scaled, cell: Scaled | None
) -> Tensor:
    """Return the terms of one of the kernel's numbers, ``(T, *its shape)``."""
    if number == "scale":
        return _products(hidden, track.joined([fresh_states(tape) for tape in tapes]))
    if number == "projection":
        return _outer_products(hidden, track.joined([fresh_states(tape) for tape in tapes]))
    if number == "carries":
        assert tapes[0].extension is not None
        skips = tapes[0].extension.cell.skips
        brought = [track.joined([tape.lagged(skip) for tape in tapes]) for skip in skips]
        return torch.stack([_products(hidden, values) for values in brought], 1)
    shifts = [activation_shift(tape) for tape in tapes]
    found = _products(hidden, track.joined([own for own, _ in shifts]))
    through = [own for _, own in shifts if own is not None]
    if cell is not None and through:
        found = found + _products(cell, track.joined(through))
    return found


def _products(gradient: Scaled, values: Tensor) -> Tensor:
    """Return Σ_b δ ⊙ values of each step, ``(T, H)``; in the padding δ is 0."""
    parts = [
        (gradient.read(start, stop) * values[start:stop].double()).sum(1)
        for start, stop in stretches(len(values))
    ]
    return torch.cat(parts)


def _outer_products(gradient: Scaled, values: Tensor) -> Tensor:
    """Return Σ_b δ valuesᵀ of each step, ``(T, P, H)``."""
    parts = [
        torch.einsum("tbp,tbh->tph", gradient.read(start, stop), values[start:stop].double())
        for start, stop in stretches(len(values))
    ]
    return torch.cat(parts)


def summed(terms: Tensor) -> Contribution:
    """Return the contribution whose terms ``(T, …)`` are known one by one."""
    flat = terms.reshape(len(terms), -1)
    total = flat.sum(0)
    return Contribution(total.view(terms.shape[1:]), scaled_norm(flat), _shares(flat, total))


def mirrored_contribution(delta: Read, previous: Tensor) -> Contribution:
    """Return the contribution to W of a recurrence that uses W - Wᵀ - γI.

    c_k = C_k - C_kᵀ with C_k = Σ_b δ_k h_{k-1}ᵀ, the term of the matrix itself.

    Args:
        delta: Pre-activation gradient by steps, as the matrix sees it.

    Shape:
        previous: ``(T, B, H)``.

    Cost:
        One float64 product per step as large as its term, two times.
    """

    def terms(start: int, stop: int) -> Tensor:
        own = delta(start, stop).transpose(1, 2) @ previous[start:stop].double()
        return own - own.transpose(1, 2)  # (K, H, H)

    cuts = stretches(len(previous))
    total, norms = torch.zeros(()), []
    for start, stop in cuts:
        part = terms(start, stop)
        total = total.to(part) + part.sum(0)
        norms.append(scaled_norm(part.flatten(1)))
    along = [_shares(terms(start, stop).flatten(1), total.flatten()) for start, stop in cuts]
    return Contribution(total.to(previous.dtype), torch.cat(norms), torch.cat(along))


def _shares(terms: Tensor, total: Tensor) -> Tensor:
    """Return ⟨c_k, Σc⟩/‖Σc‖², in a size whose products neither underflow nor overflow."""
    norm = total_norm(total)
    direction = total / norm  # 0/0 where the sum is 0: the share is NaN
    return (terms / norm) @ direction
