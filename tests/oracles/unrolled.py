"""The reference: recurrent layers unrolled in plain Python loops, differentiated by autograd.

Nothing here knows how gradreach works. Every step is a handful of torch operations on the
user's weights, every state is an ordinary tensor of the graph, and every step multiplies its
*own copy* of each weight, so that `∂L/∂(copy k)` is by construction the contribution c_k.
`test_reference_against_torch.py` holds this file against `torch.nn`.

All results are in the order of the recurrence: index 0 is the first step processed, in a
reverse layer too. In a ragged batch each row counts its own steps; what lies beyond a row's
length is NaN. Rows keep the order of the user's batch, as torch's `h_n` does.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

Loss = Callable[[list[tuple[Any, Any]]], Tensor]
"""Scalar loss of the `(output, state)` pairs that the calls of the module returned."""

Carry = Literal["state", "detached"] | None
"""How a call's initial state comes about: the last call's, that detached, or its own."""


# --------------------------------------------------------------------------- one step


def cell_step(
    kind: str, x: Tensor, state: list[Tensor], weights: dict[str, Tensor]
) -> list[Tensor]:
    """Advance one step by the equations in torch's documentation of the cells.

    Args:
        kind: `RNN_TANH`, `RNN_RELU`, `GRU` or `LSTM`.
        x: Input of the step, `(B, I)`.
        state: `[h]`, for an LSTM `[h, c]`, each `(B, H)`.
        weights: `weight_ih`, `weight_hh` and, where the layer has them, the biases and the
            projection `weight_hr`.
    """
    h = state[0]
    from_input = x @ weights["weight_ih"].T
    from_state = h @ weights["weight_hh"].T
    if "bias_ih" in weights:
        from_input = from_input + weights["bias_ih"]
        from_state = from_state + weights["bias_hh"]
    if kind == "LSTM":
        i, f, g, o = (from_input + from_state).chunk(4, dim=1)
        c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
        m = torch.sigmoid(o) * torch.tanh(c)
        return [m @ weights["weight_hr"].T if "weight_hr" in weights else m, c]
    if kind == "GRU":
        r_input, z_input, n_input = from_input.chunk(3, dim=1)
        r_state, z_state, n_state = from_state.chunk(3, dim=1)
        z = torch.sigmoid(z_input + z_state)
        n = torch.tanh(n_input + torch.sigmoid(r_input + r_state) * n_state)
        return [(1 - z) * n + z * h]
    activation = torch.tanh if kind == "RNN_TANH" else torch.relu
    return [activation(from_input + from_state)]


def relu_margin(x: Tensor, h: Tensor, weights: dict[str, Tensor]) -> float:
    """Say how near the nearest pre-activation of a ReLU step stands to the kink at 0."""
    a = x @ weights["weight_ih"].T + h @ weights["weight_hh"].T
    if "bias_ih" in weights:
        a = a + weights["bias_ih"] + weights["bias_hh"]
    return float(a.detach().abs().min())


# --------------------------------------------------------------------------- what is kept


@dataclass
class Chain:
    """One layer in one direction: its states and per-step weight copies, still in the graph."""

    reverse: bool
    states: list[list[Tensor]] = field(default_factory=list)
    copies: dict[str, list[Tensor]] = field(default_factory=dict)


@dataclass
class LayerReference:
    """What `gradreach.measure` has to say about one layer in one direction."""

    parts: dict[str, np.ndarray]
    """`h` and, for an LSTM, `c`: state gradients `(T, B, H)`, NaN beyond a row's length."""
    terms: dict[str, np.ndarray]
    """By parameter name: c_k, `(T, *shape of the parameter)`."""
    lags: Callable[[int], np.ndarray] = field(repr=False)
    """Probe t -> ‖∂L_t/∂s_{t-ℓ}‖ as `(lag, B)`, NaN where the row has no such step."""
    relu_margin: float = np.inf

    @property
    def per_sample(self) -> np.ndarray:
        """Norm of the whole state's gradient, `(T, B)`."""
        return whole_norm(np.concatenate(list(self.parts.values()), axis=2))

    @property
    def norms(self) -> np.ndarray:
        """Root mean square of `per_sample` over the rows that exist, `(T,)`."""
        return root_mean_square(self.per_sample)

    def contribution_norms(self, name: str) -> np.ndarray:
        """‖c_k‖_F by step."""
        terms = self.terms[name]
        return whole_norm(terms.reshape(len(terms), -1))

    def shares(self, name: str) -> np.ndarray:
        """⟨c_k, Σc⟩ / ‖Σc‖² by step."""
        terms = self.terms[name].reshape(len(self.terms[name]), -1)
        total = terms.sum(axis=0)
        return (terms @ total) / (total @ total)

    def lag_profile(self, probes: Sequence[int]) -> np.ndarray:
        """Mean over the probes of the RMS norm at lag ℓ, over that of the same probes at lag 0.

        A row counts at lag ℓ, above and below the fraction line, where it has such a step.
        """
        curves = [self.lags(probe) for probe in probes]
        profile = np.full(len(curves[0]), np.nan)
        for lag in range(len(profile)):
            above, below = [], []
            for curve in curves:
                rows = ~np.isnan(curve[lag])
                if rows.any():
                    above.append(root_mean_square(curve[lag, rows][None])[0])
                    below.append(root_mean_square(curve[0, rows][None])[0])
            if above and np.mean(below) > 0:
                profile[lag] = np.mean(above) / np.mean(below)
        return profile


def whole_norm(values: np.ndarray) -> np.ndarray:
    """Euclidean norm over the last axis, scaled so that 1e-200 keeps its square."""
    largest = np.max(np.abs(values), axis=-1, keepdims=True)
    scale = np.where(largest > 0, largest, 1.0)
    return np.squeeze(scale, -1) * np.sqrt(np.sum((values / scale) ** 2, axis=-1))


def root_mean_square(values: np.ndarray) -> np.ndarray:
    """Root mean square over the last axis of the entries that are not NaN, scaled."""
    result = np.full(len(values), np.nan)
    for index, row in enumerate(values):
        existing = row[~np.isnan(row)]
        if len(existing):
            result[index] = whole_norm(existing) / np.sqrt(len(existing))
    return result


# --------------------------------------------------------------------------- fused layers


@dataclass
class UnrolledCall:
    """One call of a fused module, unrolled."""

    output: Tensor
    """`(T, B, D·H)`, padded with zeros."""
    final: list[Tensor]
    """`[h_n]` or `[h_n, c_n]`, each `(L·D, B, H)`."""
    lengths: Tensor
    chains: dict[str, Chain]
    as_user: Callable[[Tensor, list[Tensor]], tuple[Any, Any]]
    """Turns an output and a final state into what the module hands its user."""
    relu_margin: float


def dropout_masks(module: nn.RNNBase, input: Any, generator: torch.Generator) -> list[Tensor]:
    """Draw the masks that torch draws between the layers, from a copy of its generator.

    Returns:
        One `(T, B, D·H)` mask, already divided by `1 - p`, for each layer but the last.
    """
    if not module.training or module.dropout == 0.0:
        return []
    width = (module.proj_size or module.hidden_size) * (2 if module.bidirectional else 1)
    keep = 1 - module.dropout
    packed = isinstance(input, PackedSequence)
    data = input.data if packed else time_major(module, input)
    masks = []
    for _ in range(module.num_layers - 1):
        drawn = torch.empty(*data.shape[:-1], width, dtype=data.dtype)
        drawn = drawn.bernoulli_(keep, generator=generator).div_(keep)
        masks.append(pad_packed_sequence(input._replace(data=drawn))[0] if packed else drawn)
    return masks


def time_major(module: nn.RNNBase, input: Tensor) -> Tensor:
    """Bring a padded or unbatched input to `(T, B, I)`."""
    if input.dim() == 2:
        return input.unsqueeze(1)
    return input.transpose(0, 1) if module.batch_first else input


def kind_of(module: nn.Module) -> str:
    """Name the equations of a fused layer or of a cell, as `RNNBase.mode` does."""
    if isinstance(module, nn.RNNBase):
        return module.mode
    if isinstance(module, nn.RNNCell):
        return "RNN_TANH" if module.nonlinearity == "tanh" else "RNN_RELU"
    return {"GRUCell": "GRU", "LSTMCell": "LSTM"}[type(module).__name__]


def backwards(padded: Tensor, lengths: Tensor) -> Tensor:
    """Reverse each row within its own length; the padding stays where it is."""
    steps = torch.arange(len(padded))[:, None]
    index = torch.where(steps < lengths, lengths - 1 - steps, steps)
    return padded.gather(0, index[..., None].expand_as(padded))


def unroll_call(
    module: nn.RNNBase,
    input: Any,
    state: list[Tensor] | None,
    masks: Sequence[Tensor],
    dtype: torch.dtype,
) -> UnrolledCall:
    """Run a fused module step by step.

    Args:
        module: An `nn.RNN`, `nn.GRU` or `nn.LSTM`.
        input: As the user passes it: padded, packed or unbatched.
        state: `[h_0]` or `[h_0, c_0]`, each `(L·D, B, H)`; zeros where None.
        masks: Of `dropout_masks`, or empty.
        dtype: To compute in.
    """
    packed = isinstance(input, PackedSequence)
    if packed:
        padded, lengths = pad_packed_sequence(input)
    else:
        padded = time_major(module, input)
        lengths = torch.full((padded.shape[1],), len(padded))
    layer_input = padded.detach().to(dtype)
    parts = 2 if kind_of(module) == "LSTM" else 1
    directions = ["", "_reverse"] if module.bidirectional else [""]
    row = 0
    chains: dict[str, Chain] = {}
    final: list[list[Tensor]] = [[] for _ in range(parts)]
    margin = np.inf
    for layer in range(module.num_layers):
        outputs = []
        for direction in directions:
            suffix = f"l{layer}{direction}"
            start = [
                layer_input.new_zeros(
                    len(lengths), (part == 0 and module.proj_size) or module.hidden_size
                )
                if state is None
                else state[part][row].to(dtype)
                for part in range(parts)
            ]
            steps = backwards(layer_input, lengths) if direction else layer_input
            chain, last, near = run_chain(module, suffix, steps, start, lengths, dtype)
            margin = min(margin, near)
            chains[suffix] = chain
            shown = torch.stack([states[0] for states in chain.states])
            # Padding is zero in torch's output, whatever state a finished row has kept.
            shown = shown * (torch.arange(len(shown))[:, None] < lengths)[..., None]
            outputs.append(backwards(shown, lengths) if direction else shown)
            for part in range(parts):
                final[part].append(last[part])
            row += 1
        layer_input = torch.cat(outputs, dim=2)
        if layer < len(masks):
            layer_input = layer_input * masks[layer].to(dtype)

    def as_user(output: Tensor, finals: list[Tensor]) -> tuple[Any, Any]:
        if packed:
            handed: Any = pack_padded_sequence(
                output, lengths, enforce_sorted=input.sorted_indices is None
            )
        elif input.dim() == 2:
            handed, finals = output.squeeze(1), [part.squeeze(1) for part in finals]
        else:
            handed = output.transpose(0, 1) if module.batch_first else output
        return handed, (finals[0] if parts == 1 else tuple(finals))

    finals = [torch.stack(part) for part in final]
    return UnrolledCall(layer_input, finals, lengths, chains, as_user, margin)


def run_chain(
    module: nn.RNNBase,
    suffix: str,
    steps: Tensor,
    state: list[Tensor],
    lengths: Tensor,
    dtype: torch.dtype,
) -> tuple[Chain, list[Tensor], float]:
    """Run one layer in one direction over inputs that stand in the order of the recurrence."""
    names = ["weight_ih", "weight_hh"] + (["bias_ih", "bias_hh"] if module.bias else [])
    names += ["weight_hr"] if module.proj_size else []
    chain = Chain(reverse=suffix.endswith("_reverse"))
    margin = np.inf
    for k, x in enumerate(steps):
        weights = {}
        for name in names:
            weight = getattr(module, f"{name}_{suffix}")
            weights[name] = weight.detach().to(dtype).clone().requires_grad_()
            chain.copies.setdefault(f"{name}_{suffix}", []).append(weights[name])
        going = k < lengths
        if module.mode == "RNN_RELU":
            margin = min(margin, relu_margin(x[going], state[0][going], weights))
        stepped = cell_step(module.mode, x, state, weights)
        # What the cell returned, before the choice below: an LSTM's h_t is computed from this c_t.
        chain.states.append(stepped)
        # A finished row keeps its state, so that the last entry is its h_n.
        state = [
            torch.where(going[:, None], new, old) for new, old in zip(stepped, state, strict=True)
        ]
    return chain, state, margin


@dataclass
class Axis:
    """The calls of one module that share a time axis, and the loss gradients that enter them."""

    calls: list[UnrolledCall]
    entering: list[tuple[Tensor, list[Tensor]]]
    """Per call: the loss gradient arriving at the output and at the final state."""

    @property
    def offsets(self) -> list[int]:
        """Where on the common axis each call begins."""
        return [0, *itertools.accumulate(len(call.output) for call in self.calls)]

    def pull_back(self, wanted: list[Tensor], probe: int | None) -> list[np.ndarray]:
        """∂L/∂(wanted), or ∂L_t/∂(wanted) for one probe t, by one vector-Jacobian product."""
        into, cotangents = [], []
        for index, (call, (e_out, e_final)) in enumerate(
            zip(self.calls, self.entering, strict=True)
        ):
            if probe is not None:
                e_out, e_final = self.only_from(probe, index, e_out, e_final)
            into += [call.output, *call.final]
            cotangents += [e_out, *e_final]
        grads = torch.autograd.grad(into, wanted, cotangents, retain_graph=True, allow_unused=True)
        return [
            (torch.zeros_like(w) if g is None else g).detach().double().numpy()
            for g, w in zip(grads, wanted, strict=True)
        ]

    def step_of_rows(self, probe: int, index: int) -> Tensor:
        """The module time within call `index` at which each row is probed; outside: no step.

        Each sequence's own end is lag 0 of the last probe, so a row that ends d steps early is
        probed d steps early.
        """
        lengths = self.calls[index].lengths
        return probe - self.offsets[index] - (len(self.calls[index].output) - lengths)

    def only_from(
        self, probe: int, index: int, e_out: Tensor, e_final: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Keep of the entering gradient what enters at the probed step.

        The final state of a forward direction is its state at the row's last step, that of a
        reverse direction its state at step 0: that is where their gradients enter.
        """
        call, at = self.calls[index], self.step_of_rows(probe, index)
        here = torch.arange(len(e_out))[:, None] == at
        ends = torch.stack(
            [at == (0 if chain.reverse else call.lengths - 1) for chain in call.chains.values()]
        )
        return e_out * here[..., None], [part * ends[..., None] for part in e_final]


def entering_gradients(
    calls: Sequence[UnrolledCall], loss: Loss
) -> list[tuple[Tensor, list[Tensor]]]:
    """Differentiate the loss with respect to what the module handed out, and no further."""
    leaves = [
        [t.detach().clone().requires_grad_() for t in (call.output, *call.final)] for call in calls
    ]
    value = loss(
        [call.as_user(parts[0], parts[1:]) for call, parts in zip(calls, leaves, strict=True)]
    )
    flat = [leaf for parts in leaves for leaf in parts]
    grads = iter(
        torch.zeros_like(leaf) if g is None else g
        for g, leaf in zip(torch.autograd.grad(value, flat, allow_unused=True), flat, strict=True)
    )
    return [(next(grads), [next(grads) for _ in parts[1:]]) for parts in leaves]


def unroll_module(
    module: nn.RNNBase,
    inputs: Sequence[Any],
    *,
    hx: Any = None,
    carry: Carry = "state",
    rng_state: Tensor | None = None,
    dtype: torch.dtype = torch.float64,
) -> list[list[UnrolledCall]]:
    """Unroll the calls of a module; the outer list has one entry per time axis.

    Args:
        module: An `nn.RNN`, `nn.GRU` or `nn.LSTM`.
        inputs: The inputs of the calls, in order.
        hx: Initial state of the first call (of every call where nothing is carried), as the
            user passes it.
        carry: How the later calls begin.
        rng_state: Of torch's generator when the first call begins; needed for dropout.
        dtype: To compute in.
    """
    generator = torch.Generator()
    if rng_state is not None:
        generator.set_state(rng_state)
    given = None
    if hx is not None:
        given = [part.detach() for part in (hx if isinstance(hx, tuple) else (hx,))]
        given = [part.unsqueeze(1) if part.dim() == 2 else part for part in given]
    axes: list[list[UnrolledCall]] = []
    for index, input in enumerate(inputs):
        state = given
        if index and carry is not None:
            state = axes[-1][-1].final
            state = [part.detach() for part in state] if carry == "detached" else state
        masks = dropout_masks(module, input, generator)
        call = unroll_call(module, input, state, masks, dtype)
        if index and carry is not None:
            axes[-1].append(call)
        else:
            axes.append([call])
    return axes


def measure_unrolled(
    module: nn.RNNBase, inputs: Sequence[Any], loss: Loss, **how: Any
) -> list[dict[str, LayerReference]]:
    """Say what a measurement of these calls must give: per time axis, by torch's suffix.

    Takes the keyword arguments of `unroll_module`.
    """
    grouped = unroll_module(module, inputs, **how)
    entering = iter(entering_gradients([call for calls in grouped for call in calls], loss))
    return [
        {suffix: read_layer(axis, suffix) for suffix in axis.calls[0].chains}
        for axis in (Axis(calls, [next(entering) for _ in calls]) for calls in grouped)
    ]


def read_layer(axis: Axis, suffix: str) -> LayerReference:
    """Read one layer in one direction off an unrolled axis."""
    chains = [call.chains[suffix] for call in axis.calls]
    states = [state for chain in chains for state in chain.states]
    reverse, ragged = chains[0].reverse, len(axis.calls) == 1
    lengths = axis.calls[0].lengths.numpy() if ragged else np.full(len(states[0][0]), len(states))
    beyond = np.arange(len(states))[:, None] >= lengths
    letters = "hc"[: len(states[0])]

    def state_gradients(probe: int | None) -> dict[str, np.ndarray]:
        flat = axis.pull_back([part for state in states for part in state], probe)
        parts = {x: np.stack(flat[i :: len(letters)]) for i, x in enumerate(letters)}
        for gradient in parts.values():
            gradient[beyond] = np.nan
        return parts

    def lags(probe: int) -> np.ndarray:
        if reverse and len(axis.calls) > 1:
            raise NotImplementedError("module time of a reverse layer over several calls")
        norms = whole_norm(np.concatenate(list(state_gradients(probe).values()), axis=2))
        by_lag = np.full(norms.shape, np.nan)
        for b, length in enumerate(lengths):
            at = probe - (len(states) - length)  # the row's own step in module time
            if at < 0:
                continue
            for lag in range(length):
                k = (length - 1 - at) - lag if reverse else at - lag
                if 0 <= k < length:
                    by_lag[lag, b] = norms[k, b]
        return by_lag

    terms = {}
    for name in chains[0].copies:
        terms[name] = np.stack(axis.pull_back([w for c in chains for w in c.copies[name]], None))
    margin = min(call.relu_margin for call in axis.calls)
    return LayerReference(state_gradients(None), terms, lags, margin)
