"""The smallest recurrent network, unrolled and differentiated with every number in the open.

One neuron, ``h_t = φ(x_t·w_in + h_{t-1}·w_h + b)``, ``h_0 = 0``, and one answer after the last
step, ``ŷ = σ(h_T·w_out)``. `unroll` runs it, `bptt` differentiates it as a training step does,
`terms` takes the same gradient apart into one term a timestep. Plain floats and `math`, no
torch: a reader can follow each line with a pocket calculator, and the tests hold every number
to autograd.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, SupportsFloat, get_args

import numpy as np
from numpy.typing import NDArray

from gradreach.flow.scaled_numbers import ONE, ScaledNumbers, multiply

__all__ = [
    "Activation",
    "Gradients",
    "Loss",
    "Outcome",
    "Parameter",
    "ScalarWeights",
    "Terms",
    "Unrolled",
    "bptt",
    "terms",
    "unroll",
]

Activation = Literal["tanh", "relu", "leaky_relu"]
Loss = Literal["bce", "squared_error"]
Parameter = Literal["w_in", "w_h", "b"]
Outcome = Literal["finite", "overflow", "saturated", "fitted"]

LEAKY_SLOPE = 0.01  # torch.nn.LeakyReLU's default

# Written as `0 if a <= 0` so that NaN passes through, and φ' at the kink is autograd's: 0 for
# ReLU, the small slope for leaky ReLU.
_ACTIVATIONS: dict[str, Callable[[float], float]] = {
    "tanh": math.tanh,
    "relu": lambda a: 0.0 if a <= 0 else a,
    "leaky_relu": lambda a: LEAKY_SLOPE * a if a <= 0 else a,
}
# φ' from (a, h = φ(a)). 1 - h² and not 1/cosh²(a): autograd computes it so, and like autograd
# it is exactly 0 once tanh has rounded to ±1.
_SLOPES: dict[str, Callable[[float, float], float]] = {
    "tanh": lambda a, h: 1.0 - h * h,
    "relu": lambda a, h: 0.0 if a <= 0 else 1.0,
    "leaky_relu": lambda a, h: LEAKY_SLOPE if a <= 0 else 1.0,
}


@dataclass(frozen=True, slots=True)
class ScalarWeights:
    """Hold the weights of the one-neuron network; ``b = 0`` is the network without a bias.

    Raises:
        ValueError: A weight is not a finite number.

    Example:
        >>> ScalarWeights(w_in=0.5, w_h=1, w_out=-1)
        ScalarWeights(w_in=0.5, w_h=1.0, w_out=-1.0, b=0.0)
    """

    w_in: float
    w_h: float
    w_out: float
    b: float = 0.0

    def __post_init__(self) -> None:
        for name in ("w_in", "w_h", "w_out", "b"):
            object.__setattr__(self, name, _finite(name, getattr(self, name)))


@dataclass(frozen=True, slots=True)
class Unrolled:
    """Keep one forward pass: everything its backward pass needs, by the names of the formulas.

    Attributes:
        pre_activations: ``a_1 … a_T``.
        states: ``h_0 … h_T``, one more than there are steps; ``h_0 = 0``.
        slopes: ``φ'(a_1) … φ'(a_T)``.
        logit: ``h_T·w_out``.
        prediction: ``ŷ``, the logistic function of the logit.
        loss_value: Binary cross-entropy (nats) or squared error, as `loss` says.
        loss_gradient: ``∂L/∂logit``, that is ``∂L/∂ŷ · ∂ŷ/∂logit``.
    """

    weights: ScalarWeights
    activation: Activation
    loss: Loss
    inputs: tuple[float, ...]
    target: float
    pre_activations: tuple[float, ...]
    states: tuple[float, ...]
    slopes: tuple[float, ...]
    logit: float
    prediction: float
    loss_value: float
    loss_gradient: float

    @property
    def factors(self) -> tuple[float, ...]:
        """``∂h_t/∂h_{t-1} = φ'(a_t)·w_h`` for ``t = 1 … T``."""
        return tuple(slope * self.weights.w_h for slope in self.slopes)

    @property
    def factor_geometric_mean(self) -> float:
        """Geometric mean of ``|w_h·φ'(a_t)|`` over ``t = 2 … T``; NaN where ``T = 1``.

        Below 1 the long-term terms shrink by this much per step, above 1 they grow.
        """
        sizes = [abs(factor) for factor in self.factors[1:]]  # h_0 is given: no path through t = 1
        if not sizes:
            return math.nan
        if 0.0 in sizes:
            return 0.0
        return math.exp(math.fsum(math.log(size) for size in sizes) / len(sizes))

    @property
    def decision(self) -> int | None:
        """The answer given: 1 above ŷ = 0.5, 0 below, None exactly on it (nothing decided)."""
        return 1 if self.logit > 0 else 0 if self.logit < 0 else None

    @property
    def outcome(self) -> Outcome:
        """What became of the gradient before it could travel back at all.

        ``"finite"``: there is one. ``"overflow"``: a state left the range of float64.
        ``"saturated"``: the answer is wrong and ``∂L/∂logit`` is nevertheless exactly 0 (a
        squared error behind a sigmoid that has rounded to 0 or 1). ``"fitted"``: it is exactly
        0 because the answer is right to the last digit.
        """
        if not all(map(math.isfinite, (*self.pre_activations, self.logit))):
            return "overflow"
        if self.loss_gradient != 0:
            return "finite"
        return "fitted" if self.decision == self.target else "saturated"


@dataclass(frozen=True, slots=True)
class Gradients:
    """Hold ``∂L/∂w`` of every weight and ``∂L/∂h_0 … ∂L/∂h_T`` of every state."""

    w_in: float
    w_h: float
    w_out: float
    b: float
    state_gradients: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """Hold ``∂L/∂w`` as a sum over timesteps; index ``k - 1`` is step ``k``.

    Attributes:
        parameter: Which ``w``.
        products: ``Π_{t=k+1..T} ∂h_t/∂h_{t-1}``, exactly 1 for ``k = T``.
        values: The terms ``c_k = ∂L/∂ŷ · ∂ŷ/∂h_T · products[k] · ∂⁺h_k/∂w``.
        total: Their sum ``∂L/∂w``, shape ``()``.
        shares: ``c_k / Σc``, signed. They sum to exactly 1, as far as float64 can: to within
            ``2⁻⁵² · Σ|share|``. All NaN where there is no sum to share; `reason` says why.
        reason: Why the shares are NaN, else None.
    """

    parameter: Parameter
    products: ScaledNumbers
    values: ScaledNumbers
    total: ScaledNumbers
    shares: NDArray[np.float64]
    reason: str | None


def unroll(
    weights: ScalarWeights,
    inputs: Sequence[float],
    target: float,
    *,
    activation: Activation = "tanh",
    loss: Loss = "bce",
) -> Unrolled:
    """Run the network over one sequence of bits and compare its answer with the target.

    Args:
        weights: The weights, ``b = 0`` for the network without a bias.
        inputs: The bits ``x_1 … x_T``, oldest first.
        target: The right answer, 0 or 1.
        activation: φ: ``"tanh"``, ``"relu"`` or ``"leaky_relu"`` (slope 0.01 below 0).
        loss: ``"bce"``, cross-entropy on the logit in nats, whose gradient ``ŷ - target``
            never saturates on a wrong answer; or ``"squared_error"``, ``(ŷ - target)²``, whose
            gradient does.

    Raises:
        ValueError: No steps, a value that is not a bit, or an unknown activation or loss.

    Cost:
        ``T`` steps of three operations.

    Example:
        >>> run = unroll(ScalarWeights(1, 1, 1), (1, 0, 1), 1, activation="relu")
        >>> run.states, run.factors, round(run.prediction, 4)
        ((0.0, 1.0, 1.0, 2.0), (1.0, 1.0, 1.0), 0.8808)
    """
    bits = _bits("inputs", inputs)
    if not bits:
        raise ValueError(
            "unroll(): argument 'inputs' must hold at least one step; got none (T = 0):"
            " pass the bits of one sequence, such as (1, 0, 1)"
        )
    (label,) = _bits("target", [target])
    phi, slope = _ACTIVATIONS[_choice("activation", activation, Activation)], _SLOPES[activation]
    _choice("loss", loss, Loss)
    states, pre_activations, slopes = [0.0], [], []
    for x in bits:
        a = x * weights.w_in + states[-1] * weights.w_h + weights.b
        h = phi(a)
        pre_activations.append(a)
        slopes.append(slope(a, h))
        states.append(h)
    logit = states[-1] * weights.w_out
    value, gradient = _bce(logit, label) if loss == "bce" else _squared_error(logit, label)
    return Unrolled(
        weights=weights,
        activation=activation,
        loss=loss,
        inputs=bits,
        target=label,
        pre_activations=tuple(pre_activations),
        states=tuple(states),
        slopes=tuple(slopes),
        logit=logit,
        prediction=_sigmoid(logit),
        loss_value=value,
        loss_gradient=gradient,
    )


def bptt(run: Unrolled) -> Gradients:
    """Differentiate the loss by backpropagation through time, one sweep from T to 1.

    These are the numbers `loss.backward()` leaves in float64, underflow and overflow included;
    `terms` keeps what float64 loses.

    Args:
        run: A forward pass of `unroll`.

    Cost:
        ``T`` steps of six operations.

    Reference:
        Werbos (1990), "Backpropagation through time: what it does and how to do it".

    Example:
        >>> gradients = bptt(unroll(ScalarWeights(1, 1, 1), (1, 0, 1), 1, activation="relu"))
        >>> round(gradients.w_in, 4), round(gradients.w_h, 4)  # -0.1192 × (1+0+1), × (0+1+1)
        (-0.2384, -0.2384)
    """
    weights = run.weights
    delta = run.loss_gradient * weights.w_out  # ∂L/∂h_T
    w_in = w_h = b = 0.0
    state_gradients = [delta]
    for t in range(len(run.inputs), 0, -1):
        local = delta * run.slopes[t - 1]  # ∂L/∂a_t
        w_in += local * run.inputs[t - 1]
        w_h += local * run.states[t - 1]
        b += local
        delta = local * weights.w_h  # ∂L/∂h_{t-1}
        state_gradients.append(delta)
    w_out = run.loss_gradient * run.states[-1]
    return Gradients(w_in, w_h, w_out, b, tuple(reversed(state_gradients)))


def terms(run: Unrolled, parameter: Parameter) -> Terms:
    """Take ``∂L/∂w`` apart into one term for every timestep.

    The term of step T is the short-term dependency, that of step 1 the long-term one. A
    vanishing gradient is not a small sum: it is a sum that the late terms dominate.

    Args:
        run: A forward pass of `unroll`.
        parameter: ``"w_in"``, ``"w_h"`` or ``"b"``. (``w_out`` acts once, after the last step.)

    Raises:
        ValueError: ``parameter`` is none of these.

    Cost:
        ``T`` steps; about 5 ms for ``T = 1000``.

    Reference:
        Pascanu, Mikolov & Bengio (2013), equations 3-5. arXiv:1211.5063.

    Example:
        >>> halves = unroll(ScalarWeights(1, 0.5, 1), (1, 1, 1), 0, activation="relu")
        >>> parts = terms(halves, "w_in")
        >>> parts.products.values, parts.shares.round(4)  # 1/7, 2/7, 4/7
        (array([0.25, 0.5 , 1.  ]), array([0.1429, 0.2857, 0.5714]))
    """
    _choice("parameter", parameter, Parameter, call="terms")
    direct = {"w_in": run.inputs, "w_h": run.states[:-1], "b": (1.0,) * len(run.inputs)}[parameter]
    head = multiply(ONE, run.loss_gradient, run.weights.w_out)  # ∂L/∂h_T
    product, products, values = ONE, [], []
    for slope, x in zip(reversed(run.slopes), reversed(direct), strict=True):
        products.append(product)
        values.append(multiply((product[0], product[1] + head[1]), head[0], slope, x))
        product = multiply(product, slope, run.weights.w_h)
    packed = ScaledNumbers.pack(values[::-1])
    total, shares = packed.sum()
    return Terms(
        parameter=parameter,
        products=ScaledNumbers.pack(products[::-1]),
        values=packed,
        total=total,
        shares=shares,
        reason=_why_no_shares(run, packed) if math.isnan(shares[0]) else None,
    )


def _why_no_shares(run: Unrolled, values: ScaledNumbers) -> str:
    if run.outcome == "overflow":
        return "a state left the range of float64, so the terms are not numbers"
    if run.outcome == "saturated":
        return "ŷ has rounded to exactly 0 or 1 and ∂L/∂logit to exactly 0: no step gets any"
    if run.outcome == "fitted":
        return "the answer is right to the last digit: ∂L/∂logit is exactly 0"
    if not values.mantissas.any():
        return "every term is exactly 0 (dead steps, w_out = 0, or nothing that w acted on)"
    return "the terms cancel to exactly 0, so none has a share"


def _sigmoid(z: float) -> float:
    return 1.0 / (1.0 + math.exp(-z)) if z >= 0 else math.exp(z) / (1.0 + math.exp(z))


def _bce(logit: float, target: float) -> tuple[float, float]:
    """Return the loss and ∂L/∂logit, both from the logit of the wrong answer.

    ``ŷ - target`` would cancel to a few digits where ŷ is close to the target.
    """
    wrong = -logit if target == 1 else logit
    value = max(wrong, 0.0) + math.log1p(math.exp(-abs(wrong)))
    return value, -_sigmoid(wrong) if target == 1 else _sigmoid(wrong)


def _squared_error(logit: float, target: float) -> tuple[float, float]:
    """Return the loss and ∂L/∂logit as autograd computes it: 0 once ŷ has rounded to 0 or 1."""
    prediction = _sigmoid(logit)
    error = prediction - target
    return error * error, 2.0 * error * prediction * (1.0 - prediction)


def _finite(name: str, value: object) -> float:
    """Return a weight as a float, or say what is wrong with it."""
    # NumPy and 0-d tensor scalars are numbers too; text and truth values are not. A plain float
    # is let through first because the protocol check costs more than the rest of a step.
    if type(value) is float or (
        isinstance(value, SupportsFloat) and not isinstance(value, bool | np.bool_)
    ):
        number = float(value)
        if math.isfinite(number):
            return number
    raise ValueError(
        f"ScalarWeights(): argument {name!r} must be a finite number; got {value!r}:"
        " lower the learning rate if a training step produced it"
    )


def _bits(name: str, values: Sequence[float]) -> tuple[float, ...]:
    for position, value in enumerate(values, start=1):
        if value not in (0, 1):
            where = f" at step {position}" if name == "inputs" else ""
            raise ValueError(
                f"unroll(): argument {name!r} must hold bits, 0 or 1; got {value!r}{where}:"
                " encode the data as zeros and ones"
            )
    return tuple(float(value) for value in values)


def _choice(name: str, value: str, choices: object, call: str = "unroll") -> str:
    names = get_args(choices)
    if value not in names:
        raise ValueError(
            f"{call}(): argument {name!r} must be one of {', '.join(names)}; got {value!r}:"
            f" use {names[0]!r} to begin with"
        )
    return value
