"""What of a total state gradient entered at its step, where only totals are known."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["ROUNDING", "Rounding", "unexplained"]


class Rounding(NamedTuple):
    """What the user's own backward pass loses of a state gradient.

    Args:
        noise: Relative error that a pass of a few hundred steps leaves: about √T·ε in practice;
            the bound leaves a factor of some tens for ill-conditioned steps.
        lost: Below this the dtype has no digits left.
        overflow: From here on an infinity is what a float64 number became: a sixteenth of the
            largest number, since sums overflow before their result does.
    """

    noise: float
    lost: float
    overflow: float


ROUNDING = {
    dtype: Rounding(noise, lost, torch.finfo(dtype).max / 16)
    for dtype, noise, lost in (
        (torch.float32, 1e-4, 1e-34),
        (torch.float64, 1e-10, 1e-290),
        (torch.float16, 2e-2, 1e-6),
        (torch.bfloat16, 1e-1, 1e-36),
    )
}


def unexplained(total: Tensor, flow: Tensor, rounding: Rounding) -> Tensor:
    """Return the part of a total state gradient that the flow between steps does not explain.

    Row by row, a difference within the rounding of the user's backward pass counts as none,
    and so does everything below the smallest normal number of its dtype, where the user's
    pass has lost what the float64 flow still carries. An infinity is explained where the flow
    is about too large for the dtype, else it entered here.

    Shape:
        total, flow: ``(…, H)`` float64.
    """
    infinite = total.isinf()
    if bool(infinite.any()):
        overflowed = infinite & (flow * total.sign() >= rounding.overflow)
        total = torch.where(overflowed, flow, total)
    scale = torch.maximum(total.abs().amax(-1), flow.abs().amax(-1))
    difference = total - flow
    explained = difference.abs().amax(-1) <= rounding.noise * scale + rounding.lost
    return difference.masked_fill_((explained & scale.isfinite())[..., None], 0.0)
