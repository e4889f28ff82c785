"""A measured flow as lines of terminal text, plain characters, no colour codes."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from gradreach.display.braille import braille_curve
from gradreach.records import GradientFlow, LayerFlow
from gradreach.records.reach import LEVEL
from gradreach.report.sentences import percent, reach_sentence
from gradreach.report.stretches import Stretch

__all__ = ["WIDTH", "flow_lines", "profile_lines", "share_lines", "wrapped"]

WIDTH = 80
INDENT = "  "


def flow_lines(flow: GradientFlow, *, unit: str = "step", width: int = WIDTH) -> Iterator[str]:
    """Yield the table of a flow, then one sentence a layer that says how far back it reaches.

    Args:
        flow: What `gradreach.measure` returned.
        unit: What a time step is to the reader, singular.
        width: Most columns to use.

    Example:
        >>> import torch, gradreach
        >>> rnn, x = torch.nn.RNN(3, 16), torch.randn(50, 4, 3)
        >>> flow = gradreach.measure(rnn, lambda: rnn(x)[0][-1].square().mean())
        >>> [line[:21] for line in flow_lines(flow)]
        ['  layer   cell     st', '  rnn.l0  tanh 16  50', "  rnn.l0: of a step's"]
    """
    # A remark of a layer may be longer than the table: only such lines are wrapped.
    for line in flow.table(width - len(INDENT)).splitlines():
        if len(line) > width - len(INDENT):
            yield from wrapped(line, width)
        else:
            yield INDENT + line
    for layer in flow.layers.values():
        yield from wrapped(reach_sentence(layer, unit=unit), width)


def profile_lines(layer: LayerFlow, *, unit: str = "step", width: int = WIDTH) -> Iterator[str]:
    r"""Yield a layer's lag profile as a picture, the reach marked against the sequence's length.

    Args:
        layer: A measured layer.
        unit: What a time step is to the reader, singular.
        width: Most columns to use.

    Example:
        >>> import torch, gradreach
        >>> rnn, x = torch.nn.RNN(3, 16), torch.randn(50, 4, 3)
        >>> flow = gradreach.measure(rnn, lambda: rnn(x)[0][-1].square().mean())
        >>> lines = list(profile_lines(flow.layers["rnn"]))
        >>> lines[0], lines[-1].startswith("  0  "), lines[-1].endswith("49")
        ('  What is left of the gradient of rnn.l0, by steps back (logarithmic):', True, True)
    """
    profile = layer.lag_profile
    if len(profile) < 2:
        return
    yield from wrapped(
        f"What is left of the gradient of {layer.name}, by {unit}s back (logarithmic):", width
    )
    room = min(60, width - len(INDENT), -(-len(profile) // 2))
    yield from (INDENT + line for line in braille_curve(profile, width=room, height=4))
    last, reach = str(len(profile) - 1), layer.reach(LEVEL)
    scale = f"0{last:>{max(room - 1, len(last) + 1)}}"
    if reach is not None and reach < len(profile):
        mark = f"▲ {reach}: 1 %"
        at = min(round(reach / (len(profile) - 1) * (room - 1)), width - len(INDENT) - len(mark))
        yield INDENT + " " * at + mark
    yield INDENT + scale


def share_lines(
    rows: Mapping[str, Sequence[Stretch]], *, unit: str = "step", width: int = WIDTH
) -> Iterator[str]:
    r"""Yield a table of stretches of the past and their shares, one line a label.

    Args:
        rows: Stretches by label, the same stretches in each.
        unit: What a time step is to the reader, singular.
        width: Most columns to use; labels give way first.

    Example:
        >>> parts = [Stretch(1, 3, 0.976), Stretch(4, 10, 0.024)]
        >>> print("\n".join(share_lines({"rnn.l0": parts}, unit="word")))
          words back  last 3    4-10
          rnn.l0        98 %   2.4 %
    """
    if not rows:
        return
    heads = [part.label for part in next(iter(rows.values()))]
    columns = [max(len(head), 7) for head in heads]
    corner = f"{unit}s back"
    room = width - len(INDENT) - sum(columns) - len(columns)
    first = min(max(len(corner), *(len(label) for label in rows)), room)
    for label, cells in [
        (corner, heads),
        *((label, [percent(part.share) for part in parts]) for label, parts in rows.items()),
    ]:
        shown = label if len(label) <= first else label[: first - 1] + "…"
        numbers = "".join(f" {cell:>{column}}" for cell, column in zip(cells, columns, strict=True))
        yield f"{INDENT}{shown:{first}}{numbers}"


def wrapped(text: str, width: int = WIDTH) -> list[str]:
    """Return a sentence as indented lines.

    Example:
        >>> wrapped("one two three", 9)
        ['  one two', '  three']
    """
    return textwrap.wrap(text, width, initial_indent=INDENT, subsequent_indent=INDENT)
