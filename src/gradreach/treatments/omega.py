"""Pascanu's regulariser Ω: errors should keep their norm from each step to the one before."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence
from torch.utils.weak import WeakIdKeyDictionary

from gradreach.treatments.pass_listener import PassListener
from gradreach.treatments.treatment import TreatmentError

__all__ = ["OmegaRNN", "omega", "regularize"]

LEAST = 1e-20  # of ‖∂L/∂h‖²: the authors' own bound, below which there is no error to keep

# What torch.nn.RNN itself calls; its module has no types.
KERNELS: dict[str, Any] = {
    "RNN_TANH": torch._VF.rnn_tanh,
    "RNN_RELU": torch._VF.rnn_relu,
}


def omega(gradients: Tensor, slopes: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return Ω and its derivative by the recurrent weights, all else held constant.

    Ω is the mean over steps and rows of ``(‖g_t J_t‖² / ‖g_t‖² − 1)²`` where g_t = ∂L/∂h_t and
    J_t = ∂h_t/∂h_{t-1} = diag(φ'_t) W: 0 where each step passes an error on as long as it came.
    States, slopes and g are constants in the derivative ("immediate"), as in the paper; steps and
    rows whose ``‖g_t‖²`` is below 1e-20 do not count, as in the authors' code.

    Shape:
        gradients, slopes: ``(T, B, H)``; weight: ``(H, H)``.

    Reference:
        Pascanu, Mikolov & Bengio (2013), equations 9 and 10. arXiv:1211.5063.

    Example:
        >>> value, gradient = omega(torch.ones(1, 1, 1), torch.ones(1, 1, 1), torch.tensor([[2.0]]))
        >>> value.item(), gradient.item()  # (2² − 1)², and its derivative 2 (2² − 1) 2·2
        (9.0, 24.0)
    """
    # In double precision: squares of what has come back over many steps.
    g, slopes, weight = gradients.double(), slopes.double(), weight.double()
    through = g * slopes  # the error at the pre-activation
    before = through @ weight  # the part of it that reaches h_{t-1}
    size = g.square().sum(-1, keepdim=True)
    counts = size >= LEAST
    safe = torch.where(counts, size, torch.ones_like(size))
    excess = torch.where(counts, before.square().sum(-1, keepdim=True) / safe - 1.0, 0.0)
    number = counts.sum().clamp(min=1)
    slope = (4.0 * excess / safe / number) * through
    gradient = slope.flatten(0, 1).T @ before.flatten(0, 1)
    return excess.square().sum() / number, gradient


class OmegaRNN(nn.RNN):
    """`torch.nn.RNN` whose recurrent weights get ``omega_weight`` times the gradient of Ω as well.

    It is added once a backward pass, when the pass has added its own gradient: before anybody
    clips, and multiplied by a ``GradScaler``'s factor like the rest.
    """

    omega_weight: float

    def forward(self, input: Any, hx: Tensor | None = None) -> Any:
        """Run the layers one by one, each with an eye on what comes back."""
        if not (torch.is_grad_enabled() and self.training):
            return super().forward(input, hx)
        if isinstance(input, PackedSequence):
            raise TreatmentError(
                "OmegaRNN.forward(): argument 'input' is a packed sequence, whose steps have "
                "different rows; pass a padded tensor, or leave regularization out"
            )
        batched = input.dim() == 3
        x = input.transpose(0, 1) if self.batch_first and batched else input
        x = x if batched else x.unsqueeze(1)
        rows = self.num_layers * (2 if self.bidirectional else 1)
        state = x.new_zeros(rows, x.shape[1], self.hidden_size) if hx is None else hx
        state = state if state.dim() == 3 else state.unsqueeze(1)
        output, last = self._run(x, state)
        if not batched:
            return output.squeeze(1), last.squeeze(1)
        return (output.transpose(0, 1) if self.batch_first else output), last

    def _run(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        finals = []
        directions = 2 if self.bidirectional else 1
        for layer in range(self.num_layers):
            parts = []
            for direction in range(directions):
                row = layer * directions + direction
                weights = [getattr(self, name) for name in self._all_weights[row]]
                sequence = x.flip(0) if direction else x
                output, _ = KERNELS[self.mode](
                    sequence, state[row : row + 1].contiguous(), weights, self.bias, 1, 0.0,
                    self.training, False, False,
                )  # fmt: skip
                output = _watched(output, weights[1], self.mode, self.omega_weight)
                finals.append(output[-1])
                parts.append(output.flip(0) if direction else output)
            x = torch.cat(parts, -1) if len(parts) > 1 else parts[0]
            if layer + 1 < self.num_layers:
                x = F.dropout(x, self.dropout, self.training)
        return x, torch.stack(finals)


def regularize(layer: nn.RNN, weight: float) -> None:
    """Make a plain layer one that is regularised; its parameters stay what they are.

    Example:
        >>> layer = nn.RNN(2, 3)
        >>> regularize(layer, 2.0)
        >>> layer(torch.randn(5, 1, 2))[0][-1].sum().backward()
        >>> layer
        OmegaRNN(2, 3)
    """
    _passes()
    layer.__class__ = OmegaRNN
    layer.omega_weight = weight


# ---- what happens in the backward pass


class _Passes:
    """The gradients of Ω that the running pass has found; one for the whole process."""

    def __init__(self) -> None:
        self.found: dict[int, Tensor] = {}  # by the id of the weight: tensors compare by value
        self.hooked = WeakIdKeyDictionary()
        self.factor = 1.0
        self.listener = PassListener(self._begins, factors=True)

    def _begins(self, roots: Any, factor: float) -> None:
        self.found.clear()
        self.factor = factor

    def hook(self, weight: Tensor) -> None:
        if weight not in self.hooked:
            self.hooked[weight] = True
            weight.register_post_accumulate_grad_hook(self._add)  # type: ignore[no-untyped-call]

    def _add(self, weight: Tensor) -> None:
        found = self.found.pop(id(weight), None)
        if found is not None and weight.grad is not None:
            weight.grad.add_(found.to(weight.grad.dtype), alpha=self.factor)


_every = _Passes()


def _passes() -> _Passes:
    _every.listener.listen()
    return _every


def _watched(output: Tensor, weight: Tensor, mode: str, share: float) -> Tensor:
    if not weight.is_leaf:
        raise TreatmentError(
            "OmegaRNN.forward(): its recurrent weights are computed from other parameters (a "
            "parametrization), to which Ω is not passed on; leave one of the two out"
        )
    if not output.requires_grad or not weight.requires_grad:
        return output
    _passes().hook(weight)
    watched: Tensor = _Watched.apply(output, weight, mode, share)  # type: ignore[no-untyped-call]
    return watched


class _Watched(torch.autograd.Function):
    """Passes states on, and in the backward pass works Ω out from what arrives at them."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, weight: Tensor, mode: str, share: float) -> Tensor:
        ctx.save_for_backward(output)
        ctx.weight, ctx.mode, ctx.share = weight, mode, share
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *arriving: Tensor) -> tuple[Tensor, None, None, None]:
        (states,), weight = ctx.saved_tensors, ctx.weight.detach()
        slopes = 1 - states.square() if ctx.mode == "RNN_TANH" else (states > 0).to(states.dtype)
        total = arriving[0].clone()
        for step in range(len(total) - 1, 0, -1):
            total[step - 1] += (total[step] * slopes[step]) @ weight
        _, gradient = omega(total, slopes, weight)
        found, name = _passes().found, id(ctx.weight)
        found[name] = ctx.share * gradient + found.get(name, 0.0)
        return arriving[0], None, None, None
