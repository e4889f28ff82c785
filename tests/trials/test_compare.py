"""`gradreach.compare`: the same table from any number of jobs, resumed, with every failure told."""

from __future__ import annotations

import io
import math
import re

import pytest
from tests.trials import trainings

import gradreach
from gradreach.trials import compare as compare_module
from gradreach.trials.local import LocalPool
from gradreach.trials.progress import Lines

TREATMENTS = ["gating(GRU)", "clipping(norm=1.0)", "initialization(identity)"]


@pytest.fixture(scope="module")
def pool():
    pool = LocalPool(2, threads=1)
    yield pool
    LocalPool.close(pool)


@pytest.fixture
def compare(pool, monkeypatch):
    """Compare on one fork server for all tests: its imports take seconds."""

    def pool_for(jobs, threads, ray=None):
        assert (threads, ray) == (1, None)
        pool.jobs = jobs
        return pool

    monkeypatch.setattr(compare_module, "pool_for", pool_for)
    monkeypatch.setattr(pool, "close", lambda: None)
    return gradreach.compare


def test_tables_of_one_and_two_jobs_are_the_same(compare):
    one = compare(trainings.first_value, TREATMENTS, seeds=2, jobs=1)
    two = compare(trainings.first_value, TREATMENTS, seeds=2, jobs=2)

    assert one.results() == two.results()
    assert len(one.trials) == 2 + 3 * 2 + 2 * 2  # the control, one rung, two finalists


def test_study_costs_no_more_than_half_of_its_full_runs_on_top(compare):
    comparison = compare(
        trainings.first_value, [*TREATMENTS, "residual", "skip(4)"], seeds=1, jobs=2
    )

    steps, full = comparison.meta["steps"], comparison.meta["cost"]["steps_of_full_runs"]
    assert full == (2 + 1) * steps
    assert comparison.meta["cost"]["steps"] <= 1.5 * full
    assert sum(each.dropped is not None for each in comparison.standings) == 3


def test_study_runs_only_what_is_missing(compare, tmp_path, monkeypatch):
    study = tmp_path / "study"
    first = compare(trainings.first_value, TREATMENTS[:1], seeds=1, study=study)
    stream = io.StringIO()
    monkeypatch.setattr(compare_module, "progress_for", lambda show: Lines(stream))

    second = compare(trainings.first_value, TREATMENTS[:1], seeds=2, study=study)

    assert stream.getvalue().count("seed 1") == 2
    assert "seed 0" not in stream.getvalue()
    assert [t.to_dict() for t in first.trials] == [
        t.to_dict() for t in second.trials if t.seed == 0
    ]


def test_diverging_control_counts_as_the_worst_and_is_told(compare):
    comparison = compare(trainings.diverging, ["clipping(norm=0.01)"], seeds=2)

    assert comparison.control.outcomes == {"nonfinite": 2}
    assert math.isnan(comparison.control.median)
    assert "2 × nonfinite" in str(comparison)


def test_control_that_crashes_is_told_not_raised(compare):
    comparison = compare(trainings.raising, ["clipping(norm=1.0)"], seeds=1)

    assert comparison.control.outcomes == {"crashed": 1}
    assert comparison.trials[0].message == "RuntimeError: there is no data"
    assert comparison.winner is None


def test_function_without_a_number_is_an_error(compare):
    with pytest.raises(gradreach.GradreachError, match="the function returned NoneType, but a num"):
        compare(trainings.nothing, ["clipping(norm=1.0)"], seeds=1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"seeds": 0}, "argument 'seeds' must be how many, at least 1, or which; got 0"),
        ({"seeds": [1, 1]}, "argument 'seeds' must be at least one number, none twice; got [1, 1]"),
        ({"finalists": 0}, "argument 'finalists' must be at least 1; got 0"),
        ({"margin": 1.5}, "argument 'margin' must be a share in 0 … 1; got 1.5"),
        ({"criterion": math.nan}, "argument 'criterion' must be a finite number; got nan"),
        ({"timeout": 0}, "argument 'timeout' must be > 0 seconds; got 0"),
        ({"threads": 0}, "argument 'threads' must be > 0 threads; got 0"),
        ({"kwargs": {"a": object()}}, "argument 'kwargs' must be plain data"),
        ({"direction": "down"}, "argument 'direction' must be one of minimize, maximize; got 'do"),
        ({"treatments": ["clipping(norm=1.0)"] * 2}, "names 'clipping(norm=1.0)' twice"),
    ],
)
def test_wrong_argument_is_named(compare, arguments, words):
    given = {"treatments": ["clipping(norm=1.0)"], **arguments}

    with pytest.raises(gradreach.GradreachError, match=re.escape(words)):
        compare(trainings.first_value, **given)


def test_no_jobs_is_an_error():
    with pytest.raises(gradreach.GradreachError, match="'jobs' must be a whole number of at le"):
        gradreach.compare(trainings.first_value, [], jobs=0)


def test_what_is_no_function_is_an_error():
    with pytest.raises(gradreach.GradreachError, match="'build' must be a function of the seed"):
        gradreach.compare(0.5, [])


def test_function_of_this_process_alone_cannot_be_sent_elsewhere():
    with pytest.raises(gradreach.GradreachError, match="jobs=2 needs fresh processes"):
        gradreach.compare(lambda seed: 0.5, [], jobs=2)


def test_function_of_this_process_alone_leaves_it_as_it_was():
    import torch

    before = torch.get_rng_state()

    comparison = gradreach.compare(lambda seed: torch.rand(1).item() + seed, [], seeds=2)

    assert torch.equal(torch.get_rng_state(), before)
    assert comparison.control.seeds == 2
    assert comparison.sentence == "No treatment was tried."
