"""Calls of one layer, drawn at random, run on the native core and on the reference."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradreach.kernels import native, reference
from gradreach.kernels.activations import ACTIVATION_NAMES, Activation, activation_of
from gradreach.kernels.native import core
from gradreach.kernels.recurrence import GATES, CellWeights, Recurrence

KINDS = ("rnn", "gru", "lstm")

# Largest difference from the reference in float64, relative to the largest entry of the tensor,
# over at most 40 steps of at most 33 units. A step adds some (I + H) roundings, of which the
# random signs leave the root: 40 * sqrt(53) * 6e-8 = 1.7e-5 at the very worst in float32, were
# no error ever damped. The same in float64 would be 3e-14; the reference has as much of its own.
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-13}


def isas() -> list[str]:
    """Return the instruction sets that the core can use here; none without one."""
    module = core.load()
    return [] if module is None else [x for x in module.compiled_isas() if module.isa_supported(x)]


@dataclass(frozen=True)
class LayerCall:
    """One call, operands first; `weights` of a call may be of any strides."""

    cell: Recurrence
    inputs: Tensor
    hidden: Tensor
    cell_state: Tensor | None
    weights: CellWeights
    batch_sizes: Tensor | None = None
    reverse: bool = False

    @property
    def operands(self) -> tuple[Tensor | None, ...]:
        return (self.inputs, self.hidden, self.cell_state, *self.weights)

    def on(self, operands) -> LayerCall:
        """Return the same call of other operands."""
        inputs, hidden, cell_state, *weights = operands
        return replace(
            self, inputs=inputs, hidden=hidden, cell_state=cell_state, weights=CellWeights(*weights)
        )

    def converted(self, dtype: torch.dtype) -> LayerCall:
        return self.on(None if x is None else x.to(dtype) for x in self.operands)

    def requiring(self, wanted=lambda place: True) -> LayerCall:
        """Return it with leaves of the same strides that need gradients."""
        return self.on(
            None if x is None else x.detach().requires_grad_(wanted(place))
            for place, x in enumerate(self.operands)
        )

    def why_not(self) -> str | None:
        return native.why_not(
            self.cell, self.inputs, self.hidden, self.cell_state, self.weights, self.batch_sizes
        )

    def run(self, path=native) -> list[Tensor]:
        """Run it on one path; the results that there are."""
        if path is native:
            assert self.why_not() is None, self.why_not()
        results = path.run(
            self.cell, self.inputs, self.hidden, self.cell_state, self.weights,
            self.batch_sizes, self.reverse,
        )  # fmt: skip
        return [x for x in results if x is not None]


def drawn_call(
    kind: str = "rnn",
    activation: Activation | str = "tanh",
    *,
    sizes: tuple[int, int, int, int] = (4, 3, 2, 5),
    skips: tuple[int, ...] = (),
    scaled: bool = False,
    biased: bool = True,
    lengths: list[int] | None = None,
    reverse: bool = False,
    dtype: torch.dtype = torch.float64,
) -> LayerCall:
    """Draw the numbers of a call; sizes are T, B, I, H, ``lengths`` those of packed rows."""
    T, B, inputs, H = sizes
    rows = GATES[kind] * H
    if isinstance(activation, str):
        activation = activation_of(activation)

    def uniform(*shape: int, bound: float) -> Tensor:
        return (2 * torch.rand(*shape, dtype=dtype) - 1) * bound

    bound = H**-0.5  # as torch's layers start: states neither explode nor vanish
    sizes_of_steps = None
    if lengths is not None:
        ordered = torch.tensor(sorted(lengths, reverse=True))
        sizes_of_steps = (torch.arange(int(ordered[0]))[:, None] < ordered).sum(1)
    shape = (T, B) if lengths is None else (sum(lengths),)
    weights = CellWeights(
        uniform(rows, inputs, bound=bound),
        uniform(rows, H, bound=bound),
        uniform(rows, bound=bound) if biased else None,
        uniform(rows, bound=bound) if biased else None,
        torch.rand(H, dtype=dtype) if scaled else None,
        uniform(len(skips), H, bound=0.5 / max(1, len(skips))) if skips else None,
        uniform(H, bound=0.1) if activation.has_bias else None,
    )
    return LayerCall(
        Recurrence(kind, activation, skips),
        torch.randn(*shape, inputs, dtype=dtype),
        uniform(B, H, bound=0.5),
        uniform(B, H, bound=0.5) if kind == "lstm" else None,
        weights,
        sizes_of_steps,
        reverse,
    )


def upstream_of(results: list[Tensor]) -> list[Tensor]:
    """Draw the gradients that arrive at results."""
    return [torch.randn_like(x) for x in results]


def differentiated(call: LayerCall, upstream: list[Tensor], path=native) -> list[Tensor]:
    """Return results and the gradients of all operands."""
    call = call.requiring()
    results = call.run(path)
    leaves = [x for x in call.operands if x is not None]
    gradients = torch.autograd.grad(results, leaves, upstream, allow_unused=True)
    missing = [
        torch.zeros_like(leaf) if x is None else x
        for x, leaf in zip(gradients, leaves, strict=True)
    ]
    return [x.detach() for x in results] + missing


def assert_native_equals_reference(call: LayerCall, upstream: list[Tensor] | None = None) -> None:
    """Results and gradients are those of the reference in float64, to rounding of the dtype."""
    if upstream is None:
        upstream = upstream_of(call.requiring().run())
    got = differentiated(call, upstream)
    wide = [x.double() for x in upstream]
    wanted = differentiated(call.converted(torch.float64), wide, reference)
    assert_all_close(got, wanted, TOLERANCE[call.inputs.dtype])


def assert_all_close(got: list[Tensor], wanted: list[Tensor], tolerance: float) -> None:
    """Each tensor is met within a share of its largest entry."""
    for place, (one, other) in enumerate(zip(got, wanted, strict=True)):
        assert one.shape == other.shape, place
        if not other.numel():
            continue
        size = max(1.0, float(other.abs().max()))
        worst = float((one.double() - other.double()).abs().max())
        assert worst <= tolerance * size, f"tensor {place}: off by {worst:.3g} at {size:.3g}"


def variants() -> list[tuple[str, dict]]:
    """Return every kind with every activation it has natively, in every variant."""
    found: list[tuple[str, dict]] = []
    forms = {
        "plain": {},
        "skip": {"skips": (1, 3)},
        "ragged": {"lengths": [7, 3, 1]},
        "reverse": {"reverse": True},
        "ragged-reverse-skip": {"lengths": [7, 3, 1], "reverse": True, "skips": (2,)},
    }
    scaled = {
        "scale": {"scaled": True},
        "all": {"scaled": True, "skips": (1, 2), "lengths": [7, 7, 2], "reverse": True},
    }
    for kind in KINDS:
        for activation in ACTIVATION_NAMES if kind == "rnn" else ("tanh",):
            for name, form in ({**forms, **scaled} if kind == "rnn" else forms).items():
                found.append((f"{kind}-{activation}-{name}", {
                    "kind": kind, "activation": activation, **form,
                }))  # fmt: skip
    return found
