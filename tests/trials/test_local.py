"""Trials on one machine: fresh processes, and an outcome for every way to end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.trials import builds

from gradreach.records.trial import Trial
from gradreach.trials.local import LocalPool
from gradreach.trials.metric import Metric
from gradreach.trials.spec import TrialSpec
from gradreach.trials.study import Study
from gradreach.trials.target import FunctionTarget


def spec_of(name: str, *, seed: int = 1, metric: str = "", **rest: object) -> TrialSpec:
    limits = {key: rest.pop(key) for key in ("timeout", "memory") if key in rest}
    target = FunctionTarget(
        module="tests.trials.builds", qualname=name, file=builds.__file__, kwargs=rest,
        cwd=str(Path.cwd()),
    )  # fmt: skip
    return TrialSpec(
        target=target, seed=seed, metric=Metric(kind="returned", pattern=metric), **limits
    )


@pytest.fixture(scope="module")
def pool() -> Iterator[LocalPool]:
    with LocalPool(2, threads=1) as pool:
        yield pool


def run(pool: LocalPool, folder: Path, *specs: TrialSpec) -> list[Trial]:
    study = Study(folder / "study", specs[0])
    pool.run(specs, study, lambda spec, trial: None)
    found = [study.result_of(spec) for spec in specs]
    assert all(found)
    return [trial for trial in found if trial is not None]


def test_trials_start_with_nothing_left_of_others(pool, tmp_path):
    seeds = (1, 2, 3, 1)

    trials = [run(pool, tmp_path / str(n), spec_of("state_of_process", seed=seed, metric="drawn"))
              for n, seed in enumerate(seeds)]  # fmt: skip
    left = run(pool, tmp_path / "l", spec_of("state_of_process", metric="leftovers"))

    drawn = [trial.metric for (trial,) in trials]
    assert drawn[0] == drawn[3]
    assert len(set(drawn)) == 3
    assert left[0].metric == 0


def test_training_gives_the_same_bits_alone_and_beside_another(pool, tmp_path):
    specs = [spec_of("train", seed=seed) for seed in (1, 2, 3)]

    beside = run(pool, tmp_path / "a", *specs)
    pool.jobs = 1
    one_by_one = run(pool, tmp_path / "b", *specs)
    pool.jobs = 2

    assert [trial.metric for trial in beside] == [trial.metric for trial in one_by_one]


@pytest.mark.parametrize(
    ("name", "rest", "outcome", "message"),
    [
        ("raises", {}, "crashed", "ValueError: the data of seed 1 are not there"),
        ("diverges", {}, "nonfinite", "the metric is nan"),
        ("takes_memory", {"memory": 2**28}, "out-of-memory", "allocate"),
        ("segfaults", {}, "crashed", "its process was ended by SIGSEGV"),
        ("leaves", {}, "crashed", "its process ended with exit code 3 and left no result"),
        ("killed_always", {}, "out-of-memory", "it was ended 5 times by SIGKILL"),
    ],
)
def test_trial_that_ends_badly_says_how(pool, tmp_path, name, rest, outcome, message):
    (trial,) = run(pool, tmp_path, spec_of(name, **rest))

    assert trial.outcome == outcome
    assert message in trial.message


def test_trial_within_its_memory_finishes(pool, tmp_path):
    (trial,) = run(pool, tmp_path, spec_of("takes_memory", size=2**25, memory=2**28))

    assert trial.outcome == "finished"


def test_trial_out_of_time_is_ended_with_its_children(pool, tmp_path):
    note = tmp_path / "child"

    (trial,) = run(pool, tmp_path, spec_of("hangs", note=str(note), timeout=4.0))

    assert trial.outcome == "timed-out"
    assert trial.message == "it was ended after 4 s"
    wait_until_gone(int(note.read_text()))


def test_next_trial_does_not_wait_for_what_the_one_before_does_at_its_end(tmp_path):
    first = spec_of("ends_slowly", until=str(tmp_path / "second"))
    second = spec_of("sleeps", seed=2, seconds=0.0)
    ended: list[int] = []

    def told(spec: TrialSpec, trial: Trial | None) -> None:
        if trial is not None:
            ended.append(spec.seed)
            (tmp_path / "second").touch()

    with LocalPool(1, threads=1) as pool:
        pool.run([first, second], Study(tmp_path / "study", first), told)

    assert ended == [2, 1]


def test_trial_ended_from_outside_is_run_again(pool, tmp_path):
    (trial,) = run(pool, tmp_path, spec_of("killed_at_first", note=str(tmp_path / "first")))

    assert trial.outcome == "finished"
    assert trial.metric == 0.5


def test_pool_goes_on_after_its_server_was_killed(pool, tmp_path):
    spec = spec_of("sleeps", seconds=0.5)
    killed: list[int] = []

    def told(spec: TrialSpec, trial: Trial | None) -> None:
        if trial is None and not killed:
            killed.append(pool.pid)
            pool._worker.wait_until_ready()
            time.sleep(0.2)
            os.kill(pool.pid, signal.SIGKILL)

    study = Study(tmp_path / "study", spec)
    pool.run([spec], study, told)

    trial = study.result_of(spec)
    assert trial is not None and trial.metric == 2.0
    assert pool.pid != killed[0]


def test_process_forked_ahead_is_replaced_where_it_was_killed(pool, tmp_path):
    run(pool, tmp_path / "a", spec_of("sleeps", seconds=0.0))
    (ahead,) = children_of(pool.pid)
    os.kill(ahead, signal.SIGKILL)
    wait_until_gone(ahead)

    (trial,) = run(pool, tmp_path / "b", spec_of("sleeps", seconds=0.0))

    assert trial.outcome == "finished"
    assert ahead not in children_of(pool.pid)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_process_forked_ahead_ends_with_its_server(tmp_path, end):
    with LocalPool(1, threads=1) as pool:
        run(pool, tmp_path, spec_of("sleeps", seconds=0.0))
        (ahead,) = children_of(pool.pid)
        os.kill(pool.pid, end)
        wait_until_gone(ahead)


def test_trials_collect_garbage_as_a_fresh_process_does(pool, tmp_path):
    (trial,) = run(pool, tmp_path, spec_of("state_of_process", metric="collects"))

    assert trial.metric == 1


def test_closed_pool_leaves_no_process(tmp_path):
    note = tmp_path / "child"
    spec = spec_of("hangs", note=str(note))

    class Enough(Exception):  # noqa: N818
        pass

    def stop_when_it_runs() -> None:
        if note.exists() and note.read_text():
            raise Enough

    with LocalPool(1, threads=1) as pool, pytest.raises(Enough):
        pool.run([spec], Study(tmp_path / "s", spec), lambda *_: None, stop_when_it_runs)

    wait_until_gone(int(note.read_text()))


def children_of(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def wait_until_gone(pid: int) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        time.sleep(0.02)
    pytest.fail(f"process {pid} still runs")
