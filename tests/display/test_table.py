"""The table of layers keeps to its width and keeps its rows apart."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradreach.display.table import Row, factor, render_table

CURVE = 0.5 ** np.arange(100)
LONG = "model.encoder.blocks.11.temporal_mixer.recurrent_layer.rnn"


@given(
    st.lists(st.text(st.characters(categories=["L", "N", "P"]), max_size=200), min_size=1),
    st.integers(64, 200),
    st.integers(1, 10**6),
)
def test_table_fits_its_width(names, width, steps):
    rows = [Row(name, "lstm 16384", steps, f"all {steps}", 1.2e-100, CURVE) for name in names]

    lines = render_table(rows, width).split("\n")

    assert len(lines) == len(names) + 1
    assert max(map(len, lines)) <= width


def test_long_names_lose_their_beginning_and_stay_apart():
    names = [f"{LONG}.l{layer}{way}" for layer in range(4) for way in ("", "_reverse")]

    lines = render_table([Row(n, "gru 8", 9, "2 of 9", 0.5, CURVE) for n in names]).split("\n")[1:]

    shown = [line.split()[0] for line in lines]
    assert len(set(shown)) == len(names)
    assert all(name.endswith(cut.removeprefix("…")) for name, cut in zip(names, shown, strict=True))


def test_columns_are_aligned():
    rows = [Row("a", "tanh 8", 4, "2 of 4", 0.1, CURVE),
            Row("b.c.d", "lstm 128", 4000, "all 4000", 1.0, CURVE)]  # fmt: skip

    head, *lines = render_table(rows).split("\n")

    for heading, texts in [("cell", ("tanh", "lstm")), ("per step", ("×0.1", "×1"))]:
        assert [line.index(t) for line, t in zip(lines, texts, strict=True)] == [
            head.index(heading)
        ] * 2


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.70711, "×0.707"), (1.0, "×1"), (1e-7, "×1e-07"), (math.nan, "–"), (math.inf, "×inf")],
)
def test_factor_is_written_with_three_digits(value, written):
    assert factor(value) == written


def test_row_is_frozen():
    with pytest.raises(AttributeError):
        Row("a", "tanh 8", 4, "2 of 4", 0.1, CURVE).name = "b"
