"""Every tracker is spoken to in its own way, and none of them can disturb a training.

The classes below have the signatures of the real ones, which are driven in an environment of
their own by `./dev proof adapters loggers`.
"""

from __future__ import annotations

import sys

import pytest

from gradreach.monitor.loggers import as_logger
from gradreach.runs.csv_log import CsvLog

NUMBERS = {"gradreach/loss": 0.5, "gradreach/reach": float("inf")}


class Calls:
    def __init__(self):
        self.made = []


class SummaryWriter(Calls):
    def add_scalar(self, tag, scalar_value, global_step=None, walltime=None):
        self.made.append((tag, scalar_value, global_step))


class MlflowModule(Calls):
    def log_metrics(self, metrics, step=None, synchronous=None):
        self.made.append((metrics, step))

    def log_dict(self, dictionary, artifact_file):
        raise AssertionError("an artifact")


class MlflowClient(Calls):
    def log_batch(self, run_id, metrics=()):
        raise AssertionError("needs MLflow's own classes")

    def log_metric(self, run_id, key, value, timestamp=None, step=None):
        self.made.append((run_id, key, value, step))


class WandbRun(Calls):
    def __init__(self):
        super().__init__()
        self.defined = []

    def define_metric(self, name, step_metric=None, hidden=None):
        self.defined.append((name, step_metric))

    def log(self, data, step=None, commit=None):
        self.made.append((data, step, commit))


class Trackio(Calls):
    def log(self, metrics, step=None):
        self.made.append((metrics, step))


class Fabric(Calls):
    def log(self, name, value, step=None):
        raise AssertionError("one number at a time")

    def log_dict(self, metrics, step=None):
        self.made.append((metrics, step))


@pytest.mark.parametrize("kind", [MlflowModule, Trackio, Fabric])
def test_numbers_come_in_one_call_with_the_step(kind):
    tracker = kind()

    as_logger(tracker)(NUMBERS, 7)

    assert tracker.made == [(NUMBERS, 7)]


def test_summary_writer_gets_scalar_by_scalar():
    tracker = SummaryWriter()

    as_logger(tracker)(NUMBERS, 7)

    assert tracker.made == [("gradreach/loss", 0.5, 7), ("gradreach/reach", float("inf"), 7)]


def test_mlflow_client_logs_to_the_run_that_is_named():
    tracker = MlflowClient()

    as_logger(tracker, run_id="r")(NUMBERS, 7)

    assert tracker.made[0] == ("r", "gradreach/loss", 0.5, 7)
    with pytest.raises(TypeError, match=r"as_logger\(\): argument 'run_id' must name the run"):
        as_logger(tracker)


@pytest.mark.parametrize("own_rows", [False, True])
def test_weights_and_biases_has_a_step_of_ours_and_keeps_the_users_rows(own_rows):
    tracker = WandbRun()

    log = as_logger(tracker, rows_of_its_own=own_rows)
    log(NUMBERS, 7)
    log(NUMBERS, 8)

    assert tracker.defined == [("gradreach/step", None), ("gradreach/*", "gradreach/step")]
    assert tracker.made == [
        ({**NUMBERS, "gradreach/step": step}, None, own_rows) for step in (7, 8)
    ]


def test_function_is_a_logger():
    seen = []

    as_logger(lambda numbers, step: seen.append((numbers, step)))(NUMBERS, 7)

    assert seen == [(NUMBERS, 7)]


@pytest.mark.parametrize("thing", [3, "runs/a", None, Calls, Calls()])
def test_what_is_no_tracker_is_refused_in_one_sentence(thing):
    with pytest.raises(TypeError, match=r"argument 'destination' must be a tracker that .+; got"):
        as_logger(thing)


def test_failing_tracker_is_left_alone_after_three_times_and_its_first_failure_is_kept():
    asked = []

    def broken(numbers, step):
        asked.append(step)
        raise ConnectionError(f"at {step}")

    log = as_logger(broken)
    for step in range(9):
        log(NUMBERS, step)

    assert asked == [0, 1, 2]
    assert log.off
    assert log.trouble.endswith("ConnectionError: at 0\n")


def test_tracker_that_fails_now_and_then_is_asked_on():
    asked = []

    def flaky(numbers, step):
        asked.append(step)
        if step % 3:
            raise ConnectionError

    log = as_logger(flaky)
    for step in range(30):
        log(NUMBERS, step)

    assert len(asked) == 30
    assert not log.off


def test_interrupt_goes_through():
    def interrupted(numbers, step):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        as_logger(interrupted)(NUMBERS, 0)


def test_no_tracker_is_imported():
    assert not {"wandb", "mlflow", "trackio", "tensorboard", "lightning"} & set(sys.modules)


def test_table_grows_with_new_names_and_is_whole_after_every_row(tmp_path):
    path = tmp_path / "deep" / "log.csv"
    log = as_logger(CsvLog(path))

    log({"loss": 1 / 3}, 0)
    log({"loss": 0.25}, 1)
    between = path.read_text()
    log({"=cmd()": float("-inf"), "a,b": 1}, 2)

    assert between == f"step,loss\n0,{1 / 3!r}\n1,0.25\n"
    assert path.read_text() == (f'step,loss,\'=cmd(),"a,b"\n0,{1 / 3!r},,\n1,0.25,,\n2,,-inf,1\n')
    assert log.trouble is None


def test_table_that_is_there_is_kept_unless_told(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("mine")

    with pytest.raises(OSError, match="it is there already: name another file or pass overwrite"):
        CsvLog(path)
    assert path.read_text() == "mine"
    CsvLog(path, overwrite=True)({"loss": 1.0}, 0)

    assert path.read_text() == "step,loss\n0,1.0\n"
