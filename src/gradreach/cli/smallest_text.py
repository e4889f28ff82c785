"""The smallest network's demo as text: 80 columns, plain characters, lines to be read in order."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence

import numpy as np

from gradreach.display.sparkline import sparkline
from gradreach.flow.scalar_bptt import ScalarWeights, Terms, Unrolled, bptt, terms, unroll
from gradreach.flow.scaled_numbers import ScaledNumbers
from gradreach.tasks.first_bit import FIRST_BIT_SEQUENCES
from gradreach.training.smallest import LOSS_FLOOR_WITHOUT_BIAS, SmallestRun

__all__ = ["exploded_lines", "product_lines", "term_lines", "training_lines"]

EPOCHS_SHOWN = (0, 1, 10, 30, 100, 300)  # and the last one
ROWS_SHOWN = 12  # a longer table of terms loses its middle unless every step is asked for
COLUMNS = 4  # lengths T side by side in 80 columns
JUMP = 0.05  # nats; smaller one-epoch rises of the loss are not worth three lines

WIDTH = 80

WHY_THREE_FAIL = (
    "Why it cannot: 000 leaves h at 0, so ŷ = 0.5 whatever the weights: undecided. 001 ends in"
    " φ(w_in), 101 in φ(w_in + w_h·φ(w_h·φ(w_in))). φ never turns a sign and w_h counts twice, so"
    " both states have the sign of w_in (or are 0): the two answers fall on the same side, their"
    " labels differ. Best is 2 of 4. 000 costs ln 2, and 101 and 001 together more: the mean loss"
    " stays above ½ ln 2."
)
WHY_BIAS_HELPS = (
    "Why it can: b moves the state without any input. So 000 gets a side of its own, and 101 and"
    " 001 are no longer bound to one sign, that of w_in."
)
WHY_RELU_FAILS = (
    "Why ReLU cannot even with b: h_T is never negative, so every logit has the sign of w_out or"
    " is 0, and no two answers ever fall on different sides."
)
WHAT_DECIDES = (
    "The factor of an active ReLU step is exactly w_h: 1 preserves, above 1 grows as w_h^T, below"
    " 1 vanishes; a dead step gives 0 (leaky ReLU: 0.01·w_h). tanh' is in (0, 1], exactly 1 only"
    " at 0. What decides is the geometric mean of |w_h·φ'(a_t)| against 1: below it the early"
    " terms vanish, above it they explode."
)


def training_lines(
    without_bias: Sequence[SmallestRun], with_bias: Sequence[SmallestRun]
) -> Iterator[str]:
    """Yield the network, both trainings epoch by epoch, and why one fails and one succeeds.

    Args:
        without_bias: One run a seed, three weights; the first is printed in full.
        with_bias: The same seeds with the hidden bias.

    Example:
        >>> from gradreach.training.smallest import train_smallest
        >>> runs = [[train_smallest(0, bias=bias, epochs=1)] for bias in (False, True)]
        >>> next(training_lines(*runs))
        'The smallest recurrent network: one neuron'
    """
    data = "  ".join(f"{_word(bits)}→{label}" for bits, label in FIRST_BIT_SEQUENCES)
    run = with_bias[0]
    yield "The smallest recurrent network: one neuron"
    yield "  h_t = φ(x_t·w_in + h_{t-1}·w_h + b),  h_0 = 0,  ŷ = σ(h_T·w_out);  the neuron"
    yield f"  trained here: φ = {run.activation}. A loss is a cross-entropy on the logit, in nats."
    yield f"  {data}   the label is the first bit"
    yield f"  each epoch w ← w - {run.learning_rate:g}·∂L/∂w,  L = mean loss of the four"
    yield ""
    yield f"1  Three weights, no bias (seed {run.seed})"
    yield from _epochs(without_bias[0])
    best = max(int(run.correct.max()) for run in without_bias)
    lowest = min(float(np.nanmin(run.losses)) for run in without_bias)
    yield from _sentences(
        f"{_seeds(without_bias)}: never more than {best} of 4; lowest loss {lowest:.4f}, and no"
        f" weights reach ½ ln 2 = {LOSS_FLOOR_WITHOUT_BIAS:.4f}."
    )
    yield from _sentences(WHY_THREE_FAIL)
    yield from _largest_jump(without_bias[0])
    yield ""
    yield f"2  The same start with one hidden bias b (seed {run.seed})"
    yield from _epochs(run)
    yield from _learned(with_bias)


def _epochs(run: SmallestRun) -> Iterator[str]:
    last = len(run.losses) - 1
    yield "   epoch      w_in       w_h     w_out         b       loss  right"
    for epoch in [*(e for e in EPOCHS_SHOWN if e < last), last]:
        weights = "".join(f" {_cell(w, 9)}" for w in run.weights[epoch])
        yield f"  {epoch:6}{weights}  {_cell(run.losses[epoch], 9)}  {run.correct[epoch]} of 4"
    yield f"  loss by epoch  {sparkline(run.losses)}"
    if run.diverged_at is not None:
        yield f"  stopped: update {run.diverged_at} left float64; try a lower learning rate"


def _largest_jump(run: SmallestRun) -> Iterator[str]:
    """Name the update that raised the loss most, where the long product of 101 made it."""
    rises = np.diff(run.losses)
    if not rises.size or rises.max() < JUMP:
        return
    epoch = int(rises.argmax())
    bits, label = FIRST_BIT_SEQUENCES[0]
    before = ScalarWeights(*map(float, run.weights[epoch]))
    parts = terms(unroll(before, bits, label, activation=run.activation, loss=run.loss), "w_in")
    early, late = parts.values.values[0], parts.values.values[-1]
    if abs(early) <= abs(late):
        return
    yield from _sentences(
        f"Its loss jumps by {rises[epoch]:.2f} in epoch {epoch + 1}: near the floor w_in → 0 and"
        f" |w_h| > 1, the term of step 1 of 101 is {early:.3g}, that of step 3 {late:.3g}, and the"
        f" update throws w_in from {before.w_in:.3f} to {run.weights[epoch + 1, 0]:.3f}: explosion"
        " in miniature."
    )


def _learned(runs: Sequence[SmallestRun]) -> Iterator[str]:
    epochs = [run.learned_at for run in runs if run.learned_at is not None]
    when = f", for good after {min(epochs)} to {max(epochs)} epochs" if epochs else ""
    yield from _sentences(f"{_seeds(runs)}: {len(epochs)} of {len(runs)} learn all four{when}.")
    run = runs[0]
    if run.activation == "relu":
        yield from _sentences(WHY_RELU_FAILS)
        return
    weights = ScalarWeights(*map(float, run.weights[-1]))
    yield "  sequence      h_1      h_2      h_3        ŷ  label"
    for bits, label in FIRST_BIT_SEQUENCES:
        end = unroll(weights, bits, label, activation=run.activation)
        states = "".join(f" {_cell(h, 8)}" for h in end.states[1:])
        yield f"  {_word(bits):8}{states} {_cell(end.prediction, 8)}  {label}"
    if epochs:
        yield from _sentences(WHY_BIAS_HELPS)


def term_lines(run: Unrolled, *, every_step: bool = False) -> Iterator[str]:
    """Yield the table of one gradient: step by step the factor, the product and both terms.

    Args:
        run: The forward pass.
        every_step: Print all T rows; otherwise the middle of a long table is left out.

    Example:
        >>> for line in term_lines(unroll(ScalarWeights(1, 1, -1), (1, 1), 1, activation="relu")):
        ...     print(line[:54])
          T = 2, relu, w_in 1, w_h 1, w_out -1, label 1: ŷ = 0
             k x_k     a_k     h_k  factor   product  c_k w_in
             1   1       1       1       1         1     0.881
             2   1       2       2       1         1     0.881
          ∂L/∂w_in = Σ c_k = 1.76; its shares sum to 1
          ∂L/∂w_h = Σ c_k = 0.881; its shares sum to 1
    """
    T, w = len(run.inputs), run.weights
    parts = [terms(run, "w_in"), terms(run, "w_h")]
    end = bptt(run).state_gradients[-1]
    yield from _sentences(
        f"T = {T}, {run.activation}, w_in {w.w_in:g}, w_h {w.w_h:g}, w_out {w.w_out:g},"
        f" label {run.target:g}: ŷ = {run.prediction:.3g}, ∂L/∂h_T = {end:.3g}"
    )
    yield "     k x_k     a_k     h_k  factor   product  c_k w_in  share   c_k w_h  share"
    left_out = range(0) if every_step or T <= ROWS_SHOWN else range(5, T - 5)
    for k in (k for k in range(T) if k not in left_out or k == left_out.start):
        if k in left_out:
            yield f"     … {len(left_out)} more; --every-step prints them"
            continue
        columns = "".join(
            f" {_number(part.values, k):>9} {_cell(part.shares[k], 6)}" for part in parts
        )
        yield (
            f"  {k + 1:4} {run.inputs[k]:3.0f} {_cell(run.pre_activations[k], 7)}"
            f" {_cell(run.states[k + 1], 7)} {_cell(run.factors[k], 7)}"
            f" {_number(parts[0].products, k):>9}{columns}"
        )
    for part in parts:
        shares = part.reason or "its shares sum to 1"
        yield from _sentences(f"∂L/∂{part.parameter} = Σ c_k = {_number(part.total, ())}; {shares}")


def product_lines(passes: Sequence[Unrolled]) -> Iterator[str]:
    """Yield what the factors make of the first step, lengths side by side, and what decides.

    Args:
        passes: Forward passes, all lengths of one setting after one another, shortest first.

    Example:
        >>> half = ScalarWeights(1, 0.5, 1)
        >>> runs = [unroll(half, (1,) * T, 1, activation="relu") for T in (2, 9)]
        >>> list(product_lines(runs))[1]
        '  relu           1   0.5      0.5    -0.30    -2.41  ▁▂▃▄▅▅▆▇█'
    """
    lengths = sorted({len(run.inputs) for run in passes})
    for begin in range(0, len(lengths), COLUMNS):
        block = lengths[begin : begin + COLUMNS]
        heads = "".join(f"T = {T}".rjust(9) for T in block)
        yield f"  φ           w_in   w_h per step{heads}  terms"
        rows = [run for run in passes if len(run.inputs) in block]
        for at in range(0, len(rows), len(block)):
            yield _product_row(rows[at : at + len(block)])
    yield from _sentences(
        "per step: geometric mean of |w_h·φ'(a_t)| at the largest T. terms: sizes of those of"
        " ∂L/∂w_in there, step 1 to T, logarithmic, each row on its own scale (·: 0)."
    )
    yield from _sentences(WHAT_DECIDES)
    longest = [run for run in passes if len(run.inputs) == lengths[-1]]
    yield from _vanishes_above_one(longest)
    yield from _first_and_last_tenth(longest)


def _vanishes_above_one(longest: Sequence[Unrolled]) -> Iterator[str]:
    """Contradict "w_h above 1 explodes" with the user's own numbers, where they do."""
    for run in longest:
        w_h, mean = run.weights.w_h, run.factor_geometric_mean
        if run.activation == "tanh" and abs(w_h) > 1 and mean < 1:
            yield f"  So tanh with w_h = {w_h:g} vanishes here, {mean:.3g} per step: it saturates."
            return


def _first_and_last_tenth(longest: Sequence[Unrolled]) -> Iterator[str]:
    """Say which end of time the gradient comes from, where it shrank most and grew most."""
    T = len(longest[0].inputs)
    if T < 10:
        return
    usable = [run for run in longest if run.factor_geometric_mean > 0]
    chosen = {id(pick): pick for pick in (usable[0], max(usable, key=_growth))} if usable else {}
    for run in chosen.values():
        part = terms(run, "w_in")
        early = _percent(part, slice(None, T // 10))
        late = _percent(part, slice(-(T // 10), None))
        yield from _sentences(
            f"{run.activation}, w_h {run.weights.w_h:g}, T = {T}: of ∂L/∂w_in {early} comes from"
            f" the first tenth of the steps, {late} from the last."
        )


def _percent(part: Terms, steps: slice) -> str:
    """Return what some steps hold of the sum, also where that is below the range of float64."""
    some = ScaledNumbers(part.values.mantissas[steps], part.values.exponents[steps]).sum()[0]
    if part.reason:
        return "nothing (no sum)"
    ratio = np.asarray(100 * some.mantissas / part.total.mantissas)
    return f"{_number(ScaledNumbers(ratio, some.exponents - part.total.exponents), ())} %"


def _growth(run: Unrolled) -> float:
    return run.factor_geometric_mean


def _product_row(runs: Sequence[Unrolled]) -> str:
    longest = runs[-1]
    parts = [terms(run, "w_in") for run in runs]
    logs = "".join(_exponent(float(part.products.log10[0])) for part in parts)
    sizes = np.where(parts[-1].values.signs == 0, np.nan, parts[-1].values.log10)
    w, per_step = longest.weights, _cell(longest.factor_geometric_mean, 8)
    curve = sparkline(sizes, width=9)
    return f"  {longest.activation:10} {w.w_in:5g} {w.w_h:5g} {per_step}{logs}  {curve}"


def exploded_lines(runs: Sequence[Unrolled]) -> Iterator[str]:
    """Yield what an exploded state does to the gradient under each loss.

    Args:
        runs: One forward pass under each loss.

    Example:
        >>> weights = ScalarWeights(1, 2, -1)
        >>> run = unroll(weights, (1,) * 99, 1, activation="relu", loss="squared_error")
        >>> list(exploded_lines([run]))[1]
        '  squared_error        1   ∂L/∂w_h          0   saturated'
    """
    run = runs[0]
    yield (
        f"  {run.activation}, w_h {run.weights.w_h:g}, T = {len(run.inputs)}:"
        f" h_T = {run.states[-1]:.2g}, ŷ = {run.prediction:.2g}, label {run.target:g}"
    )
    for run in runs:
        yield (
            f"  {run.loss:13} {_cell(run.loss_value, 8)}   ∂L/∂w_h {_cell(bptt(run).w_h, 10)}"
            f"   {run.outcome}"
        )
    for run in runs:
        if run.outcome == "saturated":
            yield from _sentences(
                f"{run.loss}: as wrong as can be, but ŷ has rounded to exactly {run.prediction:g}"
                " and ∂L/∂logit with it to exactly 0: no step learns anything."
            )


def _sentences(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  ")


def _word(bits: Sequence[float]) -> str:
    return "".join(f"{bit:.0f}" for bit in bits)


def _seeds(runs: Sequence[SmallestRun]) -> str:
    return "seed" + ("s " if len(runs) > 1 else " ") + ", ".join(str(run.seed) for run in runs)


def _cell(value: float, width: int) -> str:
    """Return a number with as many digits as the column holds, right-aligned."""
    digits = width - 2
    while digits > 1 and len(f"{value:.{digits}g}") > width:
        digits -= 1
    return f"{value:.{min(digits, 4)}g}".rjust(width)


def _number(numbers: ScaledNumbers, at: int | tuple[()]) -> str:
    """Return one number of any magnitude with three digits; 1e-500 is not 0."""
    value, log10 = float(numbers.values[at]), float(numbers.log10[at])
    if not math.isfinite(log10) or abs(log10) < 300:
        return f"{value:.3g}"
    return f"{numbers.signs[at] * 10 ** (log10 % 1):.2f}e{math.floor(log10):+d}"


def _exponent(log10: float) -> str:
    return " exact 0".rjust(9) if log10 == -math.inf else f"{log10:.2f}".rjust(9)
