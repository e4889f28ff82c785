"""What all pages stand on: the vendored library as it was published, and what a page may run."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradreach.display.visible import OBEYED
from gradreach.report.charts import chart, chosen_rows, heat_row, told_values
from gradreach.report.page import json_in_page, page_scripts, render_page

# uplot 1.6.32 as its authors published it; nothing in it was changed.
VENDORED = {
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}


def test_vendored_library_is_what_its_authors_published():
    folder = files("gradreach.report").joinpath("vendor/uplot")

    found = {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in folder.iterdir()}

    assert found == VENDORED


def test_licence_travels_with_the_library_into_every_page():
    script = page_scripts("report.js")[0]

    assert "Copyright (c) 2022 Leon Sorokin" in script
    assert "The above copyright notice and this permission notice" in script
    assert "https://" not in script.replace("https://github.com/leeoniya/uPlot", "")


def test_page_allows_exactly_its_own_scripts():
    page = render_page("page.html.j2", title="t", data={"charts": {}, "maps": {}})

    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1].replace("&#39;", "'")
    scripts = re.findall(r"(?s)<script>(.*?)</script>", page)
    digests = {
        f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'"
        for each in scripts
    }
    assert policy.startswith("default-src 'none'; ")
    assert set(policy.rpartition("script-src ")[2].split()) == digests
    assert len(scripts) == 3
    assert not re.search(r"\son\w+=", re.sub(r"(?s)<script.*?</script>", "", page))


def test_page_without_data_runs_nothing():
    page = render_page("page.html.j2", title="t")

    assert "<script" not in page
    assert "script-src" not in page


@given(st.text())
def test_any_text_survives_a_script_element(text):
    told = json_in_page({"name": text})

    assert not set("<>&") & set(told)
    assert told.isascii()
    assert OBEYED.search(json.loads(told)["name"]) is None
    if OBEYED.search(text) is None:
        assert json.loads(told) == {"name": text}


@given(st.lists(st.floats(width=32), min_size=1, max_size=400), st.integers(8, 60))
def test_thinned_curve_keeps_its_extremes_and_its_faults(values, most):
    curve = np.array(values)
    broken = np.isnan(curve)

    at = chosen_rows({"curve": curve}, broken, most)

    assert len(at) <= max(most, 6)
    assert (np.diff(at) > 0).all()
    finite = curve[np.isfinite(curve)]
    if len(finite):
        kept = curve[at][np.isfinite(curve[at])]
        assert (kept.min(), kept.max()) == (finite.min(), finite.max())
    assert np.isfinite(curve[at]).all() == np.isfinite(curve).all()


def test_two_curves_keep_the_peaks_of_both():
    noise = np.random.default_rng(0).normal(size=(2, 50_000))
    noise[0, 1_234], noise[1, 43_210] = 99.0, -99.0

    at = chosen_rows({"a": noise[0], "b": noise[1]}, np.zeros(50_000, bool), 2_000)

    assert len(at) <= 2_000
    assert {1_234, 43_210} <= set(at.tolist())


def test_values_that_are_not_finite_are_told_by_name():
    values = np.array([1.0, np.nan, np.nan, np.inf, -np.inf])

    told = told_values(values, np.array([False, True, False, False, False]))

    assert told == [1.0, "NaN", None, "Infinity", "-Infinity"]
    assert json.loads(json_in_page(told)) == told


@pytest.mark.parametrize(
    ("row", "bundle", "told"),
    [
        ([1.0, 0.1, 0.01], 1, [0, -20, -40]),
        ([np.nan, 1.0, 0.0, 0.0], 2, ["N", "0"]),
        ([np.inf, np.nan], 2, ["N"]),
        ([np.inf, 1.0], 2, ["I"]),
        ([1e-320], 1, [-6400]),
        ([], 3, []),
    ],
)
def test_heat_row_tells_sizes_and_faults_apart(row, bundle, told):
    assert heat_row(np.array(row), bundle) == told


def test_chart_leaves_out_steps_at_which_nothing_was_measured():
    curve = np.array([np.nan, 2.0, np.nan])

    told = chart("t", np.array([10.0, 20.0, 30.0]), {"c": curve}, np.zeros(3, bool))

    assert told["steps"] == [20]
