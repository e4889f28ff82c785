"""What a measured gradient flow says, in words that need no manual."""

from __future__ import annotations

import math

import numpy as np

from gradreach.records import GradientFlow, LayerFlow
from gradreach.records.reach import LEVEL  # the sentences say it: 1 %
from gradreach.report.stretches import Stretch

__all__ = ["change_sentence", "percent", "reach_sentence", "share_sentence", "verdict"]

GROWTH = 10.0  # × the gradient at lag 0: explosion, as architecture.md defines the finding
STEPS_NAMED = 5


def verdict(flow: GradientFlow, *, unit: str = "step") -> list[str]:
    """Say first what matters most about a flow: one to three sentences.

    Args:
        flow: What `gradreach.measure` returned.
        unit: What a time step is to the reader, singular: ``"word"``, ``"day"``.

    Example:
        >>> import torch, gradreach
        >>> _ = torch.manual_seed(0)
        >>> rnn, x = torch.nn.RNN(3, 16), torch.randn(50, 4, 3)
        >>> flow = gradreach.measure(rnn, lambda: rnn(x)[0][-1].square().mean())
        >>> print(verdict(flow)[0])
        The gradient fades: less than 1 % of it is left 7 steps back (of 50 measured).
    """
    layers = flow.layers
    broken = [(name, layer) for name, layer in layers.items() if layer.nonfinite]
    if broken:
        told = "; ".join(f"{name}: {layer.nonfinite}" for name, layer in broken)
        return [f"The gradient is not finite ({told}): repair that before anything else."]
    measured = {name: layer for name, layer in layers.items() if len(layer.lag_profile) > 1}
    if not measured:
        return [f"No layer's gradient could be followed over more than one {unit}."]
    said = [_headline(measured, unit)]
    cut = {name: layer for name, layer in measured.items() if layer.detached_steps}
    if cut:
        said.append(f"The past is cut off: {'; '.join(_cut_off(n, x) for n, x in cut.items())}.")
    if flow.blind:
        said.append(f"Not measured: {'; '.join(map(str, flow.blind))}.")
    return said


def _headline(layers: dict[str, LayerFlow], unit: str) -> str:
    growth = {name: _left_at_the_end(layer)[1] for name, layer in layers.items()}
    grown = max(growth, key=lambda name: growth[name])
    if growth[grown] >= GROWTH:
        lag = _left_at_the_end(layers[grown])[0]
        return (
            f"The gradient explodes on its way back: in {grown} it is {growth[grown]:,.3g} times "
            f"as large {_count(lag, unit)} back."
        )
    farthest = max(layers.values(), key=lambda layer: layer.reach(LEVEL) or 0)
    reach, lags = farthest.reach(LEVEL) or 0, len(farthest.lag_profile)
    if reach >= lags:
        lag, left = _left_at_the_end(farthest)
        return (
            f"The gradient reaches all the way back: {_percent_left(left)} of it is left in "
            f"{farthest.name} after {_count(lag, unit)}, the farthest measured."
        )
    where = "" if len(layers) == 1 else ", in every layer"
    return (
        f"The gradient fades: less than 1 % of it is left {_count(reach, unit)} back (of {lags} "
        f"measured){where}."
    )


def reach_sentence(layer: LayerFlow, *, unit: str = "step") -> str:
    """Say how far back one layer's gradient reaches.

    Args:
        layer: A measured layer.
        unit: What a time step is to the reader, singular.

    Example:
        >>> import torch, gradreach
        >>> _ = torch.manual_seed(0)
        >>> rnn, x = torch.nn.RNN(3, 16), torch.randn(50, 4, 3)
        >>> flow = gradreach.measure(rnn, lambda: rnn(x)[0][-1].square().mean())
        >>> print(reach_sentence(flow.layers["rnn"], unit="day"))
        rnn.l0: of a day's loss, less than 1 % of the gradient is left 7 days back.
    """
    name, back = layer.name, "ahead (it reads backwards)" if layer.reverse else "back"
    if layer.nonfinite is not None:
        return f"{name}: {layer.nonfinite}."
    reach, lags = layer.reach(LEVEL), len(layer.lag_profile)
    if reach is None:
        return f"{name}: no {unit}'s loss could be followed back."
    if lags == 1:
        return f"{name}: the sequence has one {unit}; there is nothing to reach back to."
    lag, left = _left_at_the_end(layer)
    if left >= GROWTH:
        return (
            f"{name}: of a {unit}'s loss, the gradient grows: it is {left:,.3g} times as large "
            f"{_count(lag, unit)} {back}."
        )
    if reach >= lags:
        return (
            f"{name}: of a {unit}'s loss, {_percent_left(left)} of the gradient is left "
            f"{_count(lag, unit)} {back}, the farthest measured."
        )
    return (
        f"{name}: of a {unit}'s loss, less than 1 % of the gradient is left "
        f"{_count(reach, unit)} {back}."
    )


def change_sentence(
    subject: str, before: GradientFlow, after: GradientFlow, *, steps: int, unit: str = "step"
) -> str:
    """Say what training did to the farthest reach of a model, beside what it did to the loss.

    Args:
        subject: What the model is called.
        before: Measured at the start.
        after: Measured with the same data after training.
        steps: Training steps in between.
        unit: What a time step is to the reader, singular.

    Example:
        >>> import torch, gradreach
        >>> _ = torch.manual_seed(0)
        >>> rnn, x = torch.nn.RNN(3, 16), torch.randn(50, 4, 3)
        >>> flow = gradreach.measure(rnn, lambda: rnn(x)[0][-1].square().mean())
        >>> print(change_sentence("nn.RNN", flow, flow, steps=0))
        nn.RNN: at the start the gradient falls below 1 % 7 steps back; after 0 training steps
        (loss 0.0849 → 0.0849) it falls below 1 % 7 steps back.
    """
    return (
        f"{subject}: at the start the gradient {_farthest(before, unit)}; after "
        f"{_count(steps, 'training step')} (loss {before.loss:.3g} → {after.loss:.3g}) it "
        f"{_farthest(after, unit)}."
    )


def share_sentence(layer: LayerFlow, parts: tuple[Stretch, ...], *, unit: str = "step") -> str:
    """Say which part of the recurrent weight's gradient comes from the nearest steps.

    Args:
        layer: The layer.
        parts: Its stretches, nearest first.
        unit: What a time step is to the reader, singular.

    Example:
        >>> import torch, gradreach
        >>> from gradreach.report.stretches import stretches
        >>> _ = torch.manual_seed(0)
        >>> rnn, x = torch.nn.RNN(2, 8), torch.randn(40, 1, 2)
        >>> layer = gradreach.measure(rnn, lambda: rnn(x)[0][-1].sum()).layers["rnn"]
        >>> print(share_sentence(layer, stretches(layer), unit="hour"))
        rnn.l0: the last 3 hours give 100 % of this gradient, those more than 30 back ≈0 %.
    """
    near, far = parts[0], parts[-1]
    if math.isnan(near.share):
        return f"{layer.name}: the gradient is exactly zero; there is nothing to share out."
    given = f"{layer.name}: the last {_count(near.last, unit)} give {percent(near.share)} of this"
    if far is near:
        return f"{given} gradient."
    return f"{given} gradient, those more than {far.first - 1} back {percent(far.share)}."


def percent(share: float) -> str:
    """Write a share with two digits; only an exact zero is written as 0.

    Example:
        >>> [percent(share) for share in (0.976, 0.0412, -0.0013, 2e-7, 0.0, float("nan"))]
        ['98 %', '4.1 %', '-0.13 %', '≈0 %', '0 %', '–']
    """
    if math.isnan(share):
        return "–"
    if 0 < abs(share) < 5e-5:
        return "≈0 %"
    hundredths = 100 * share
    if abs(hundredths) >= 9.95:
        return f"{hundredths:.0f} %"
    return f"{hundredths:.1f} %" if abs(hundredths) >= 0.995 else f"{hundredths:.2g} %"


def _farthest(flow: GradientFlow, unit: str) -> str:
    """Say the farthest reach of all layers as a predicate."""
    measured = [layer for layer in flow.layers.values() if len(layer.lag_profile) > 1]
    if not measured or any(layer.nonfinite for layer in measured):
        return "could not be followed"
    farthest = max(measured, key=lambda layer: layer.reach(LEVEL) or 0)
    reach = farthest.reach(LEVEL) or 0
    if reach >= len(farthest.lag_profile):
        return f"stays above 1 % all {_count(len(farthest.lag_profile) - 1, unit)} back"
    return f"falls below 1 % {_count(reach, unit)} back"


def _left_at_the_end(layer: LayerFlow) -> tuple[int, float]:
    """Return the longest lag with a finite value, and that value."""
    finite = np.flatnonzero(np.isfinite(layer.lag_profile))
    if not len(finite):
        return 0, math.nan
    return int(finite[-1]), float(layer.lag_profile[finite[-1]])


def _percent_left(left: float) -> str:
    return f"{100 * left:.2g} %" if left < 1 else f"{100 * left:.0f} %"


def _cut_off(name: str, layer: LayerFlow) -> str:
    steps = [str(step) for step in layer.detached_steps]
    shown = ", ".join(steps[:STEPS_NAMED]) + (", …" if len(steps) > STEPS_NAMED else "")
    return f"the state entering {name} at step{'s' if len(steps) > 1 else ''} {shown} is detached"


def _count(number: int, unit: str) -> str:
    return f"{number:,} {unit}" if number == 1 else f"{number:,} {unit}s"
