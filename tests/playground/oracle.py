"""The playground's networks in float64 torch, every number by autograd alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

PHI = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "leaky_relu": lambda a: torch.nn.functional.leaky_relu(a, 0.01),
}


def tensors(weights: dict[str, Any]) -> dict[str, Tensor]:
    return {
        name: torch.tensor(value, dtype=torch.float64, requires_grad=True)
        for name, value in weights.items()
    }


def unrolled(settings: dict[str, Any], per_step: list[dict[str, Tensor]], inputs: list[float]):
    """Return the states s_0 … s_T, each a vector that the next one is computed from.

    ``per_step`` holds the weights of each step: copies of their own tell each step's term apart.
    """
    H = settings["units"]
    states = [torch.zeros(2 * H if settings["cell"] == "lstm" else H, dtype=torch.float64)]
    states[0].requires_grad_()
    for t, x in enumerate(inputs, start=1):
        states.append(_step(settings, per_step[t - 1], x, states, t))
    return states


def _step(settings, w, x, states, t):
    H, before = settings["units"], states[-1]
    if settings["cell"] == "lstm":
        h, c = before[:H], before[H:]
        i, f, g, o = (w["W_in"] * x + w["W_h"] @ h + w["b"]).split(H)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.cat([torch.sigmoid(o) * torch.tanh(c), c])
    if settings["cell"] == "gru":
        r, z, n = (w["W_in"] * x + w["b"]).split(H)
        from_r, from_z, from_n = (w["W_h"] @ before).split(H)
        r, z = torch.sigmoid(r + from_r), torch.sigmoid(z + from_z)
        n = torch.tanh(n + r * from_n)
        return (1 - z) * n + z * before
    h = PHI[settings["activation"]](w["W_in"] * x + w["W_h"] @ before + w["b"])
    h = h + before if settings["residual"] else h
    skip = settings["skip"]
    return h + states[t - skip] if skip >= 2 and t > skip else h


def loss_of(settings, weights, states, target):
    logit = weights["w_out"] @ states[-1][: settings["units"]]
    if settings["loss"] == "squared_error":
        return (torch.sigmoid(logit) - target) ** 2
    return torch.nn.functional.binary_cross_entropy_with_logits(
        logit, torch.tensor(float(target), dtype=torch.float64)
    )


def taken_apart(settings, weights, inputs, target):
    """Return the loss, the terms of each weight by step, ∂L/∂s_k and ‖∂s_T/∂s_k‖₂, k = 1 … T."""
    whole = tensors(weights)
    copies = [
        {name: value.detach().clone().requires_grad_() for name, value in whole.items()}
        for _ in inputs
    ]
    states = unrolled(settings, copies, inputs)
    loss = loss_of(settings, whole, states, target)
    names = ("W_in", "W_h", "b")
    wanted = [copy[name] for copy in copies for name in names]
    found = torch.autograd.grad(loss, [*wanted, *states[1:]], retain_graph=True, allow_unused=True)
    filled = [
        torch.zeros_like(of) if grad is None else grad
        for grad, of in zip(found, [*wanted, *states[1:]], strict=True)
    ]
    terms = {name: filled[at : len(wanted) : 3] for at, name in enumerate(names)}
    jacobians = [
        torch.stack([
            torch.autograd.grad(states[-1][row], state, retain_graph=True, allow_unused=True)[0]
            if state is not states[-1]
            else torch.eye(len(states[-1]), dtype=torch.float64)[row]
            for row in range(len(states[-1]))
        ])
        for state in states[1:]
    ]  # fmt: skip
    return {
        "loss": float(loss.detach()),
        "states": [state.detach()[: settings["units"]] for state in states],
        "terms": terms,
        "state_gradients": filled[len(wanted) :],
        "products": [float(torch.linalg.matrix_norm(each, 2)) for each in jacobians],
    }


def trained(settings, weights, sequences):
    """Return loss and gradient norm of every epoch of torch's own gradient descent."""
    own = tensors(weights)
    parameters = [own[name] for name in ("W_in", "W_h", "b", "w_out")]
    optimizer = torch.optim.SGD(parameters, lr=settings["learning_rate"])
    losses, norms = [], []
    for _ in range(settings["epochs"] + 1):
        optimizer.zero_grad()
        each = [
            loss_of(settings, own, unrolled(settings, [own] * len(bits), bits), label)
            for bits, label in sequences
        ]
        loss = torch.stack(each).mean()
        loss.backward()
        if not settings["bias"]:
            own["b"].grad.zero_()
        limit = settings["clip"] or float("inf")
        norms.append(float(torch.nn.utils.clip_grad_norm_(parameters, limit)))
        losses.append(float(loss.detach()))
        optimizer.step()
    return losses, norms
