"""The layer benchmark: its arithmetic, its cases agree, and the page shows what was measured."""

from __future__ import annotations

import importlib
import json
import random
import statistics
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from gradreach.kernels.native import core

ROOT = Path(__file__).parents[2]
RAW = ROOT / "benchmarks" / "results" / "layers.json"
SMALL = (6, 3, 2, 4)


@pytest.fixture
def part(monkeypatch):
    """Import a module of the benchmark, as benchmarks/layers.py finds it."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield lambda name: importlib.import_module(f"_layers.{name}")
    for name in [name for name in sys.modules if name.partition(".")[0] in ("_layers", "layers")]:
        del sys.modules[name]


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_flops_are_those_of_the_matrix_products(part, kind):
    steps, batch, inputs, hidden = shape = (7, 3, 2, 5)
    gates = {"rnn": 1, "gru": 3, "lstm": 4}[kind]
    recurrent = 2 * steps * batch * hidden * gates * hidden
    entering = 2 * steps * batch * inputs * gates * hidden

    counted = part("problem").flops(kind, shape)

    assert counted == 3 * (recurrent + entering)  # forward, and twice that backward


@pytest.mark.parametrize("form", ["sequence", "training", "packed"])
@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_own_case_computes_what_torchs_does(part, kind, form):
    problem, build = part("problem"), part("torch_cases").build
    shape = (*problem.RAGGED[:2], 3, 4) if form == "packed" else SMALL

    own, theirs = (build(problem.Case(who, kind, form=form), shape)() for who in ("own", "torch"))

    assert len(own) == len(theirs) > 1
    # Sums of up to 3200 terms in float32, added in another order.
    torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-3)


def test_loop_case_computes_what_the_layer_does(part):
    problem, build = part("problem"), part("torch_cases").build

    loop, layer = (
        build(problem.Case(who, "rnn", "leaky_relu"), SMALL)() for who in ("loop", "own")
    )

    torch.testing.assert_close(loop, layer, rtol=1e-4, atol=1e-5)


def test_floor_case_does_every_product_of_a_step(part):
    problem, build = part("problem"), part("torch_cases").build
    step = build(problem.Case("gemm", "lstm"), SMALL)

    with FlopCounterMode(display=False) as counter:
        step()

    assert counter.get_total_flops() == problem.flops("lstm", SMALL)


def test_interval_of_the_median_covers_it_in_19_of_20_samples(part):
    draw = random.Random(0)
    interval = part("pairs").median_interval

    covered = 0
    for _ in range(2000):
        median, low, high = interval([draw.expovariate(1.0) for _ in range(101)])
        assert low <= median <= high
        covered += low <= 0.6931 <= high

    # Five standard errors of a share of 0.95 in 2000; the ranks are rounded outwards.
    assert 0.95 - 0.025 <= covered / 2000 <= 0.98


def test_ratio_is_taken_within_a_round(part):
    timing = part("pool").Timing
    slow_machine_twice = [1.0, 5.0, 1.0, 5.0]

    found = part("pool").ratio(
        timing(rounds=[2 * x for x in slow_machine_twice]), timing(rounds=slow_machine_twice)
    )

    assert found == pytest.approx(2.0)


def test_worker_answers_times_and_errors(part):
    worker = part("pool").Worker("torch", 1, sys.executable)
    try:
        samples = worker.ask("visit", case="own rnn tanh sequence", shape=SMALL, seconds=0.0)
        with pytest.raises(SystemExit, match="Unknown nonlinearity 'swoosh'"):
            worker.ask("open", case="own rnn swoosh sequence", shape=SMALL)
    finally:
        worker.stop()

    assert len(samples) >= 2
    assert all(0 < seconds < 10 for seconds in samples)


def test_cases_that_disagree_are_not_timed(part):
    case = part("problem").Case
    workers = part("pool").Pool(None, rounds=1, visit_seconds=0.0)
    loop_under_a_wrong_name = case("loop", "rnn", "tanh")  # it computes leaky_relu

    try:
        with pytest.raises(SystemExit, match="computes something else"):
            workers.compare([(case("own"), 1), (loop_under_a_wrong_name, 1)], SMALL)
    finally:
        workers.stop()


def test_target_not_measured_is_neither_met_nor_missed(part):
    rows = part("targets").targets({"threads": [1, 2]})

    assert len(rows) > 20
    assert {row.met for row in rows} == {None}


def test_target_is_judged_on_the_right_side(part):
    target = part("targets").Target

    assert target("faster", at_least=True, bound=2.0, measured=2.1).met is True
    assert target("faster", at_least=True, bound=2.0, measured=1.9).met is False
    assert target("small", at_least=False, bound=2.0, measured=2.1).met is False


def test_section_is_replaced_and_the_page_around_it_kept(part):
    report = part("report")
    result = {
        "command": "python x", "date": "2020-01-01", "quick": False, "threads": [1], "samples": 16,
        "machine": {"cpu": "c", "cpus": 2, "isa": "avx2"}, "versions": {"torch": "2", "jax": None},
        "targets": [], "disturbed_share": 0.0,
    }  # fmt: skip
    page = "# Benchmarks\n\n## Layers\n\nold\n\n## Other\n\nkept\n"

    once = report.replaced(page, result)

    assert "old" not in once
    assert once.startswith("# Benchmarks\n\n## Layers\n")
    assert once.endswith("\n\n## Other\n\nkept\n")
    assert report.replaced(once, result) == once


def test_page_shows_the_figures_of_the_raw_file(part, lacks):
    if not RAW.exists():
        lacks("benchmarks/results/layers.json, written by benchmarks/layers.py")

    section = part("report").section(json.loads(RAW.read_text()))

    assert section in (ROOT / "docs" / "benchmarks.md").read_text()


def test_peak_grows_with_the_width_of_the_vectors(lacks):
    module = core.load() or lacks(f"a native core: {core.why_not_loaded()}")
    isas = [isa for isa in reversed(module.compiled_isas()) if module.isa_supported(isa)]

    peaks = [statistics.median(module.peak_gflops(isa, 1, 0.005) for _ in range(5)) for isa in isas]

    # Each width doubles the last; 1.3 leaves room for lower clocks and a busy machine.
    assert all(wide > 1.3 * narrow for narrow, wide in pairwise(peaks))
    assert module.peak_gflops("no such set", 1, 0.001) == 0.0


def test_sections_that_are_kept_stand_with_the_date_of_their_own(part):
    part("problem")  # the path of the benchmark is set
    with_kept = importlib.import_module("layers").with_kept
    first = {"date": "1", "command": "a", "speed": 1, "steps": 2, "fixed": 3}

    second = with_kept({"date": "2", "command": "b", "fixed": 4}, first)
    third = with_kept({"date": "3", "command": "c", "steps": 5}, second)

    assert (third["speed"], third["steps"], third["fixed"]) == (1, 5, 4)
    assert {name: its["date"] for name, its in third["earlier"].items()} == {
        "speed": "1", "fixed": "2",
    }  # fmt: skip
