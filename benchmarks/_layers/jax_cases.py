"""The tanh RNN in JAX: lax.scan differentiated by JAX, and with a backward written by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from _layers.problem import Case, Shape, numbers

Array = Any
NAMES = ("x", "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def build(case: Case, shape: Shape) -> Callable[[], Sequence[Array]]:
    """Return the compiled step of a case."""
    given = {name: jnp.asarray(a) for name, a in numbers(case.kind, shape).items()}
    operands, upstream = [given[name] for name in NAMES], given["upstream"]
    run = {"autodiff": plain, "by-hand": by_hand}[case.who]

    @jax.jit
    def gradients(operands: list[Array], upstream: Array) -> Sequence[Array]:
        output, pull = jax.vjp(run, *operands)
        return output, *pull(upstream)

    return lambda: jax.block_until_ready(gradients(operands, upstream))


def plain(x: Array, weight_ih: Array, weight_hh: Array, bias_ih: Array, bias_hh: Array) -> Array:
    """The layer, with the input product hoisted out of the scan."""
    entering = x @ weight_ih.T + (bias_ih + bias_hh)

    def step(h: Array, row: Array) -> tuple[Array, Array]:
        h = jnp.tanh(row + h @ weight_hh.T)
        return h, h

    return lax.scan(step, jnp.zeros_like(entering[0]), entering)[1]


by_hand = jax.custom_vjp(plain)


def _forward(*operands: Array) -> tuple[Array, tuple[Array, ...]]:
    output = plain(*operands)
    return output, (*operands[:3], output)


def _backward(kept: tuple[Array, ...], upstream: Array) -> tuple[Array, ...]:
    """Only the state's gradient goes step by step; everything else is one product."""
    x, weight_ih, weight_hh, output = kept

    def step(carried: Array, at: tuple[Array, Array]) -> tuple[Array, Array]:
        arriving, h = at
        error = (arriving + carried) * (1 - h * h)
        return error @ weight_hh, error

    _, errors = lax.scan(step, jnp.zeros_like(upstream[0]), (upstream, output), reverse=True)
    before = jnp.concatenate([jnp.zeros_like(output[:1]), output[:-1]])
    rows = errors.reshape(-1, errors.shape[-1])
    bias = rows.sum(0)
    return (
        errors @ weight_ih,
        rows.T @ x.reshape(-1, x.shape[-1]),
        rows.T @ before.reshape(-1, before.shape[-1]),
        bias,
        bias,
    )


by_hand.defvjp(_forward, _backward)
