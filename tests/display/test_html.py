"""The HTML fragment of a flow holds every number once and nobody's markup."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np

from gradreach.display.html import page_fragment
from gradreach.display.table import Row

HOSTILE = '<script>alert("1")</script>'


def test_fragment_is_well_formed_and_escapes_everything():
    row = Row(HOSTILE, HOSTILE, 4, HOSTILE, 0.5, np.array([1.0, 0.5]))

    fragment = page_fragment([row], {HOSTILE: row.curve}, [HOSTILE])
    root = ElementTree.fromstring(f"<div>{fragment}</div>")

    assert "<script" not in fragment
    assert [cell.text for cell in root.iter("td")] == [HOSTILE, HOSTILE, "4", HOSTILE, "×0.5"]
    assert root.find("p").text == root.find("figure/figcaption").text == HOSTILE


def test_layer_without_a_profile_has_a_row_and_no_figure():
    rows = [Row(n, "gru 2", 3, "–", float("nan"), np.zeros(0)) for n in ("a", "b")]

    fragment = page_fragment(rows, {row.name: row.curve for row in rows}, [])

    assert fragment.count("<tr>") == 3
    assert "<svg" not in fragment
