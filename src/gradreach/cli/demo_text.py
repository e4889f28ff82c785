"""The text of `gradreach demo`: 80 columns, plain characters, meant to be read once through."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gradreach.cli.smallest import SmallestDemo
from gradreach.cli.smallest_text import product_lines, term_lines
from gradreach.report.findings import Found, finding_lines
from gradreach.report.sentences import change_sentence, share_sentence
from gradreach.report.stretches import stretches
from gradreach.report.terminal import flow_lines, share_lines, wrapped

if TYPE_CHECKING:  # it imports torch; the one-neuron part is read meanwhile
    from gradreach.cli.next_word import NextWordRun, Text

__all__ = [
    "UNIT",
    "next_word_lines",
    "smallest_lines",
    "text_lines",
    "verdict_sentences",
    "when",
]

UNIT = "word"  # what a time step is in this demo

HOW_TO_READ = (
    "Training sends each word's error back in time, word by word, and at every step some of it"
    " is lost. What is left many words back is all that the network can learn from them. In the"
    " tables, reach is how many words back less than 1 % is left; the bars show what is left,"
    " from the word itself on the left to the farthest back, each bar the logarithm."
)
WHOSE_SHARES = (
    "The weights' own gradient is a sum over the words, too. The share of each stretch of the"
    " past is told for a loss that reads the last word of each window alone: with a loss at"
    " every word, no term could be told near or far. Shares sum to 100 %; a negative one pulls"
    " against the rest."
)


def smallest_lines(demo: SmallestDemo) -> Iterator[str]:
    """Yield what the network of one neuron shows: what it can learn, its sum, its products.

    Args:
        demo: What `gradreach.cli.smallest.run_demo` computed.

    Example:
        >>> from gradreach.cli.smallest import run_demo
        >>> lines = smallest_lines(run_demo(steps=[3, 10], seeds=[0], epochs=200))
        >>> next(lines)
        '1  The smallest recurrent network: one neuron, three weights'
    """
    yield "1  The smallest recurrent network: one neuron, three weights"
    yield "  h_t = φ(x_t·w_in + h_{t-1}·w_h),  ŷ = σ(h_T·w_out);  to learn: the first bit"
    yield "  of 101→1, 001→0, 000→0, 111→1, two steps after it was seen"
    without, runs = demo.without_bias, demo.with_bias
    best = max(int(run.correct.max()) for run in without)
    learned = [run.learned_at for run in runs if run.learned_at is not None]
    when = f" (after {max(learned)} epochs at most)" if learned else ""
    yield from wrapped(
        f"As told, with three weights, it gets at most {best} of 4 right from {len(without)} "
        f"starts, and provably never more than 2. With one hidden bias b, {len(learned)} of "
        f"{len(runs)} starts learn all four{when}."
    )
    yield ""
    yield from wrapped(
        "Its gradient is a sum over the steps k: c_k = ∂L/∂ŷ·∂ŷ/∂h_T · product_k · ∂⁺h_k/∂w, "
        "product_k = factor_{k+1}·…·factor_T, factor_t = φ'(a_t)·w_h. For 101, untrained:"
    )
    yield from term_lines(demo.passes[0])
    yield ""
    yield "  The longer the sequence, the longer that product. log10 |product_1|:"
    yield from product_lines(demo.passes)
    yield "  All of it, epoch by epoch and step by step: gradreach demo smallest"


def text_lines(text: Text) -> Iterator[str]:
    """Yield what the real network is trained on, and how to read what follows.

    Args:
        text: The example's text.

    Example:
        >>> from gradreach.cli.example import load_example
        >>> from gradreach.cli.next_word import load_text
        >>> next(text_lines(load_text(load_example("next_word"))))
        '2  A real one: the next word of English prose'
    """
    yield "2  A real one: the next word of English prose"
    yield from wrapped(
        f"examples/next_word.py is an ordinary training script, without gradreach in it. Its "
        f"text is Python's language reference: {len(text.train):,} words, "
        f"{len(text.vocabulary):,} different ones."
    )
    yield from wrapped(HOW_TO_READ)
    yield from wrapped(WHOSE_SHARES)


def next_word_lines(run: NextWordRun) -> Iterator[str]:
    """Yield one cell's measurements: reach and table at both stages, shares, diagnosis.

    Args:
        run: What `measure_next_word` returned.

    Example:
        >>> from gradreach.cli.example import load_example
        >>> from gradreach.cli.next_word import load_text, measure_next_word
        >>> run = measure_next_word(load_text(load_example("next_word")), "rnn", steps=0)
        >>> next(next_word_lines(run))
        'nn.RNN, 2 layers of 128 units, measured on 16 windows of 60 words'
    """
    yield (
        f"{run.name}, {run.layers} layers of {run.hidden} units, measured on {run.batch} windows "
        f"of {len(run.window)} words"
    )
    for stage in (run.start, run.trained):
        yield ""
        yield f"  {when(stage.steps)}: loss {stage.flow.loss:.2f} nats per word"
        yield from flow_lines(stage.flow, unit=UNIT)
    yield ""
    yield "  where the gradient of the recurrent weights comes from, last word's loss alone"
    rows = {
        f"{name}, {when(stage.steps)}": stretches(layer)
        for stage in (run.start, run.trained)
        for name, layer in stage.last_word.layers.items()
    }
    yield from share_lines(rows, unit=UNIT)
    for layer in run.trained.last_word.layers.values():
        yield from wrapped(f"Trained, {share_sentence(layer, stretches(layer), unit=UNIT)}")
    yield ""
    yield f"  Diagnosis, {when(run.trained.steps)}:"
    yield from finding_lines([Found(finding) for finding in run.trained.findings])
    yield ""
    yield from _in_the_text(run)


def verdict_sentences(runs: Sequence[NextWordRun]) -> list[str]:
    """Return what came out: one sentence a cell, then what it means.

    Args:
        runs: The cells, simplest first.

    Example:
        >>> verdict_sentences([])
        []
    """
    said = [
        change_sentence(
            run.name, run.start.flow, run.trained.flow, steps=run.trained.steps, unit=UNIT
        )
        for run in runs
    ]
    if not runs:
        return said
    reached = [run.trained.farthest.reach() or 0 for run in runs]
    window, most = len(runs[0].window), max(reached)
    if most < window:
        said.append(
            f"The falling loss does not tell this: of what stands {most} or more words before a "
            f"word, {'these networks learn' if len(runs) > 1 else 'this network learns'} next to "
            "nothing about it."
        )
    if len(runs) > 1 and max(reached) != min(reached):
        farthest, nearest = runs[reached.index(most)], runs[reached.index(min(reached))]
        said.append(
            f"{farthest.name} reaches {most} words back where {nearest.name} reaches "
            f"{min(reached)}, on the same text."
        )
    return said


def when(steps: int) -> str:
    """Say after how much training something was measured.

    Args:
        steps: Training steps so far.

    Example:
        >>> when(0), when(1), when(200)
        ('at the start', 'after 1 step', 'after 200 steps')
    """
    if not steps:
        return "at the start"
    return f"after {steps} step{'s' if steps > 1 else ''}"


def _in_the_text(run: NextWordRun) -> Iterator[str]:
    """Show one window with the words in brackets that the average reach covers."""
    reach = run.trained.farthest.reach() or 0
    edge = len(run.window) - reach
    beyond, within = run.window[:edge], run.window[edge:]
    yield from wrapped(
        f"In brackets, the words within that reach of {run.trained.farthest.name} (an average), "
        "before the word to be predicted:"
    )
    words = " ".join([*beyond, "[", *within, "] →", run.target])
    yield from (f"  {line}" for line in wrapped(words, 78))
