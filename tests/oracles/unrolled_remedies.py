"""The reference for `gradreach.nn`: its layers unrolled in a plain loop over interleaved lists.

Written from the equations in the layers' documentation, without any kernel of the package:
activations are torch's own functions, a dilated layer is as many lists of states as it has
interleaved sequences, a skip looks into its list, and autograd does the rest. Each step
multiplies its own copy of every parameter, as in `tests.oracles.unrolled`, whose readings of
an unrolled axis are used here, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from tests.oracles.unrolled import (
    Axis,
    Chain,
    LayerReference,
    Loss,
    UnrolledCall,
    backwards,
    dropout_masks,
    entering_gradients,
    read_layer,
    time_major,
)
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import gradreach as gr

Phi = Callable[[Tensor, dict[str, Tensor]], Tensor]

ACTIVATIONS: dict[str, Phi] = {
    "tanh": lambda a, _: torch.tanh(a),
    "relu": lambda a, _: torch.relu(a),
    "leaky_relu": lambda a, _: F.leaky_relu(a, 0.2),
    "elu": lambda a, _: F.elu(a, 0.5),
    "selu": lambda a, _: F.selu(a),
    "softsign": lambda a, _: F.softsign(a),
    "hardtanh": lambda a, _: F.hardtanh(a),
    "identity": lambda a, _: a,
    "sigmoid": lambda a, _: torch.sigmoid(a),
    "gelu": lambda a, _: F.gelu(a),
    "silu": lambda a, _: F.silu(a),
    "modrelu": lambda a, w: torch.sign(a) * torch.relu(a.abs() + w["activation_bias"]),
    "users": lambda a, _: torch.sin(a),
}


def matrix_of(weight: Tensor, residual: Any) -> Tensor:
    """The matrix a recurrence multiplies with."""
    if isinstance(residual, gr.nn.EulerStep) and residual.antisymmetric:
        return weight - weight.T - residual.gamma * torch.eye(len(weight), dtype=weight.dtype)
    return weight


def plain_step(
    kind: str, phi: Phi, x: Tensor, state: list[Tensor], w: dict[str, Tensor], residual: Any
) -> list[Tensor]:
    """What the cell makes of an input and a state, before any shortcut."""
    matrix = matrix_of(w["weight_hh"], residual)
    from_input, from_state = x @ w["weight_ih"].T, state[0] @ matrix.T
    if "bias_ih" in w:
        from_input, from_state = from_input + w["bias_ih"], from_state + w["bias_hh"]
    if kind == "lstm":
        i, f, g, o = (from_input + from_state).chunk(4, 1)
        c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * phi(g, w)
        return [torch.sigmoid(o) * phi(c, w), c]
    if kind == "gru":
        (ri, zi, ni), (rs, zs, ns) = from_input.chunk(3, 1), from_state.chunk(3, 1)
        z = torch.sigmoid(zi + zs)
        n = phi(ni + torch.sigmoid(ri + rs) * ns, w)
        return [(1 - z) * n + z * state[0]]
    return [phi(from_input + from_state, w)]


def shortcut(
    fresh: Tensor, history: list[list[Tensor]], w: dict[str, Tensor], settings: dict[str, Any]
) -> Tensor:
    """h_t from the cell's result and the earlier states of its own interleaved sequence."""
    residual, skip = settings["residual"], settings["skip"]
    result = fresh
    if residual == "learned":
        result = torch.sigmoid(w["alpha"]) * fresh + torch.sigmoid(w["beta"]) * history[-1][0]
    elif isinstance(residual, gr.nn.EulerStep):
        result = history[-1][0] + residual.epsilon * fresh
    elif residual is True:
        result = fresh + history[-1][0]
    elif residual is not False:
        result = residual[0] * fresh + residual[1] * history[-1][0]
    lags = () if skip is None else (skip,) if isinstance(skip, int) else skip
    for place, lag in enumerate(lags):
        weight = settings["skip_weight"]
        factor: Any = {"identity": 1.0, "learned": None}.get(weight, weight)
        if factor is None:
            factor = w["skip_weight"][place]
        if lag <= len(history):
            result = result + factor * history[-lag][0]
    return result


def run_direction(
    module: Any,
    suffix: str,
    steps: Tensor,
    start: list[Tensor],
    lengths: Tensor,
    settings: dict[str, Any],
) -> tuple[Chain, list[Tensor]]:
    """Run one layer in one direction over inputs in the order of the recurrence."""
    every = settings["dilation"]
    phi = ACTIVATIONS[settings["activation"]]
    names = [name for name, _ in module.named_parameters() if name.endswith(f"_{suffix}")]
    chain = Chain(reverse=suffix.endswith("_reverse"))
    histories = [[start] for _ in range(every)]
    for k, x in enumerate(steps):
        w = {}
        for name in names:
            copy = getattr(module, name).detach().to(steps.dtype).clone().requires_grad_()
            w[name.removesuffix(f"_{suffix}")] = copy
            chain.copies.setdefault(name, []).append(copy)
        history = histories[k % every]
        fresh = plain_step(module.kind, phi, x, history[-1], w, settings["residual"])
        state = [shortcut(fresh[0], history, w, settings), *fresh[1:]]
        history.append(state)
        chain.states.append(state)
    rows = torch.arange(len(lengths))
    parts = [torch.stack(part) for part in zip(*chain.states, strict=True)]
    return chain, [part[lengths - 1, rows] for part in parts]


def unroll_own(
    module: Any,
    input: Any,
    state: list[Tensor] | None,
    masks: Sequence[Tensor],
    settings: dict[str, Any],
    dtype: torch.dtype,
) -> UnrolledCall:
    """Run one call of a layer of `gradreach.nn` step by step."""
    packed = isinstance(input, PackedSequence)
    padded, lengths = pad_packed_sequence(input) if packed else (time_major(module, input), None)
    if lengths is None:
        lengths = torch.full((padded.shape[1],), len(padded))
    below, parts = padded.detach().to(dtype), 2 if module.kind == "lstm" else 1
    chains: dict[str, Chain] = {}
    final: list[list[Tensor]] = [[] for _ in range(parts)]
    for layer in range(module.num_layers):
        outputs = []
        for direction in ["", "_reverse"] if module.bidirectional else [""]:
            row, suffix = len(chains), f"l{layer}{direction}"
            zeros = below.new_zeros(len(lengths), module.hidden_size)
            start = [zeros if state is None else state[p][row].to(dtype) for p in range(parts)]
            steps = backwards(below, lengths) if direction else below
            chain, last = run_direction(module, suffix, steps, start, lengths, settings)
            chains[suffix] = chain
            shown = torch.stack([states[0] for states in chain.states])
            shown = shown * (torch.arange(len(shown))[:, None] < lengths)[..., None]
            outputs.append(backwards(shown, lengths) if direction else shown)
            for part in range(parts):
                final[part].append(last[part])
        below = torch.cat(outputs, dim=2)
        if layer < len(masks):
            below = below * masks[layer].to(dtype)

    def as_user(output: Tensor, finals: list[Tensor]) -> tuple[Any, Any]:
        if packed:
            handed: Any = pack_padded_sequence(output, lengths, enforce_sorted=False)
        elif input.dim() == 2:
            handed, finals = output.squeeze(1), [part.squeeze(1) for part in finals]
        else:
            handed = output.transpose(0, 1) if module.batch_first else output
        return handed, (finals[0] if parts == 1 else tuple(finals))

    stacked = [torch.stack(part) for part in final]
    return UnrolledCall(below, stacked, lengths, chains, as_user, float("inf"))


def measure_own(
    module: Any,
    inputs: Sequence[Any],
    loss: Loss,
    settings: dict[str, Any],
    *,
    hx: Any = None,
    rng_state: Tensor | None = None,
    dtype: torch.dtype = torch.float64,
) -> dict[str, LayerReference]:
    """Say what a measurement of calls that pass the state on must give, by torch's suffix."""
    generator = torch.Generator()
    if rng_state is not None:
        generator.set_state(rng_state)
    state = None
    if hx is not None:
        state = [part.detach() for part in (hx if isinstance(hx, tuple) else (hx,))]
        state = [part.unsqueeze(1) if part.dim() == 2 else part for part in state]
    calls: list[UnrolledCall] = []
    for input in inputs:
        masks = dropout_masks(module, input, generator)
        calls.append(unroll_own(module, input, state, masks, settings, dtype))
        state = calls[-1].final
    axis = Axis(calls, entering_gradients(calls, loss))
    return {suffix: read_layer(axis, suffix) for suffix in calls[0].chains}
