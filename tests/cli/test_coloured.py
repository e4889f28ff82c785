"""Colour goes to terminals that want it, and the text is the same with and without."""

from __future__ import annotations

import re

import pytest

from gradreach.cli.coloured import coloured


@pytest.mark.parametrize(
    ("terminal", "variables", "colour"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_colour_is_for_terminals_that_want_it(terminal, variables, colour, monkeypatch):
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    lines = ["train.py: 1 problem found.", "  error: dead-units", "  a note: no severity"]

    shown = list(coloured(lines, terminal=terminal))

    assert any("\x1b[" in line for line in shown) == colour
    assert shown[2] == lines[2]
    assert [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in shown] == lines
