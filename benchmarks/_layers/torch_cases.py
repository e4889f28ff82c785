"""The cases that run on torch: ours, torch.nn's, the loop users write, the matrix products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from _layers.problem import GATES, LENGTHS, Case, Shape, numbers

Step = Callable[[], Sequence[Tensor]]  # one training step; returns output and gradients
CLASSES = 10


def build(case: Case, shape: Shape) -> Step:
    """Return the step of a case, ready to be timed."""
    given = {name: torch.from_numpy(a) for name, a in numbers(case.kind, shape).items()}
    if case.who == "gemm":
        return products(case.kind, shape, given)
    if case.who == "loop":
        return loop(given)
    layer = layer_of(case, shape)
    layer.load_state_dict({k: v for k, v in given.items() if k.endswith("_l0")}, strict=False)
    return {"sequence": sequence, "training": training, "packed": packed}[case.form](layer, given)


def layer_of(case: Case, shape: Shape) -> Any:
    """Return our layer or torch's."""
    if case.who == "own":
        import gradreach.nn as own

        module: Any = own
    else:
        module = nn
    kind = getattr(module, case.kind.upper())
    size = shape[2:]
    return kind(*size, nonlinearity=case.activation) if case.kind == "rnn" else kind(*size)


def sequence(layer: nn.RNNBase, given: dict[str, Tensor]) -> Step:
    """Forward and backward of the layer alone: gradients of x and of all parameters."""
    x = given["x"].requires_grad_()
    operands = [x, *layer.parameters()]

    def step() -> Sequence[Tensor]:
        output, _ = layer(x)
        return output, *torch.autograd.grad(output, operands, given["upstream"])

    return step


def training(layer: nn.RNNBase, given: dict[str, Tensor]) -> Step:
    """The layer in its place: a Linear head and a loss on every step, gradients of parameters."""
    torch.manual_seed(0)
    model = nn.ModuleList([layer, nn.Linear(layer.hidden_size, CLASSES)])
    x = given["x"]
    labels = torch.randint(CLASSES, x.shape[:2]).flatten()
    parameters = list(model.parameters())

    def step() -> Sequence[Tensor]:
        output, _ = model[0](x)
        loss = F.cross_entropy(model[1](output).flatten(0, 1), labels)
        for parameter in parameters:
            parameter.grad = None
        loss.backward()
        return loss, *(p.grad for p in parameters if p.grad is not None)

    return step


def packed(layer: nn.RNNBase, given: dict[str, Tensor]) -> Step:
    """Forward and backward of a ragged batch, packed beforehand."""
    lengths = torch.tensor(LENGTHS)
    data, sizes, *_ = pack_padded_sequence(given["x"], lengths)
    upstream = pack_padded_sequence(given["upstream"], lengths).data
    operands = [data.requires_grad_(), *layer.parameters()]

    def step() -> Sequence[Tensor]:
        output, _ = layer(PackedSequence(data, sizes))
        return output.data, *torch.autograd.grad(output.data, operands, upstream)

    return step


def loop(given: dict[str, Tensor]) -> Step:
    """What users write where torch has no layer: the input product hoisted, then a loop."""
    leaves = [given["x"], *(v for k, v in given.items() if k.endswith("_l0"))]
    for leaf in leaves:
        leaf.requires_grad_()
    x, weight_ih, weight_hh, bias_ih, bias_hh = leaves
    start = torch.zeros(x.shape[1], weight_hh.shape[1])

    def step() -> Sequence[Tensor]:
        entering = F.linear(x, weight_ih, bias_ih + bias_hh)
        h, outputs, recurrent = start, [], weight_hh.t()
        for row in entering.unbind(0):
            h = F.leaky_relu(torch.addmm(row, h, recurrent), 0.01)
            outputs.append(h)
        output = torch.stack(outputs)
        return output, *torch.autograd.grad(output, leaves, given["upstream"])

    return step


def products(kind: str, shape: Shape, given: dict[str, Tensor]) -> Step:
    """The matrix products of a step and nothing else: torch.mm's own floor.

    Those of the recurrence one by one, as their order demands; the other four over all steps at
    once; results into memory that is there already.
    """
    steps, batch, _, hidden = shape
    rows = GATES[kind] * hidden
    x = given["x"].flatten(0, 1)
    weight_ih, weight_hh = given["weight_ih_l0"], given["weight_hh_l0"]
    state = torch.randn(steps * batch, hidden)
    error = torch.randn(steps * batch, rows)
    into_rows, into_all = torch.empty(batch, rows), torch.empty(steps * batch, rows)
    into_state, into_x = torch.empty(batch, hidden), torch.empty_like(x)
    into_ih, into_hh = torch.empty_like(weight_ih), torch.empty_like(weight_hh)

    def step() -> Sequence[Tensor]:
        torch.mm(x, weight_ih.t(), out=into_all)
        for t in range(0, steps * batch, batch):
            torch.mm(state[t : t + batch], weight_hh.t(), out=into_rows)
        for t in range(0, steps * batch, batch):
            torch.mm(error[t : t + batch], weight_hh, out=into_state)
        torch.mm(error.t(), state, out=into_hh)
        torch.mm(error.t(), x, out=into_ih)
        torch.mm(error, weight_ih, out=into_x)
        return ()

    return step
