"""The same numbers through five real trackers, offline, read back from what each has stored.

Twenty steps, NaN and infinity among the values (MLflow's SQL stores keep the largest float in
place of an infinity). TensorBoard, W&B (offline), MLflow (SQLite),
trackio and the CSV table get them from `as_logger`; then each tracker's own storage is read.
"""

from __future__ import annotations

import json
import math
import os
import struct
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

STEPS = 20
BLOCK = 1 << 15  # of W&B's file
BESIDE = "wandb beside the user's rows"  # all of the user's, and ours as of each of them
Curves = dict[str, dict[int, float]]


def numbers_of(step: int) -> dict[str, float]:
    """Return what is logged at a step: dyadic fractions, which float32 stores hold, too."""
    special = {3: float("nan"), 5: float("inf"), 7: float("-inf")}
    return {
        "gradreach/gradient_norm": special.get(step, 1.0 / 2**step),
        "gradreach/clipped_norm": 0.25,
        "gradreach/reach": float(step),
    }


def wanted() -> Curves:
    """Return the curves as they were logged."""
    names = numbers_of(0)
    return {name: {step: numbers_of(step)[name] for step in range(STEPS)} for name in names}


def log_all(log: Callable[[Mapping[str, float], int], object]) -> str | None:
    """Log every step; return the trouble there was."""
    for step in range(STEPS):
        log(numbers_of(step), step)
    return getattr(log, "trouble", None)


def tensorboard(folder: Path) -> Curves:
    """TensorBoard's event file, read by its own reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    from gradreach.monitor.loggers import as_logger

    with SummaryWriter(str(folder)) as writer:
        assert log_all(as_logger(writer)) is None
    read = EventAccumulator(str(folder))
    read.Reload()
    return {
        name: {event.step: event.value for event in read.Scalars(name)}
        for name in read.Tags()["scalars"]
    }


def wandb_records(data: bytes) -> Iterator[bytes]:
    """Yield the records of an offline run's file: LevelDB's log format behind a head of 7 bytes."""
    at, parts = 7, []
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:  # a record's head is never split over two blocks
            at += BLOCK - at % BLOCK
        _, length, kind = struct.unpack_from("<IHB", data, at)
        parts.append(data[at + 7 : at + 7 + length])
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield b"".join(parts)
            parts.clear()


def wandb_entries(file: Path) -> list[Any]:
    """Return what an offline run's file holds, once W&B's own process has written its end."""
    from wandb.proto import wandb_internal_pb2

    entries: list[Any] = []
    for _ in range(30):
        entries = []
        for data in wandb_records(file.read_bytes()):
            entries.append(wandb_internal_pb2.Record())
            entries[-1].ParseFromString(data)
        if any(entry.HasField("exit") for entry in entries):
            break
        time.sleep(1.0)  # finish() has returned, but the file is that process's
    return entries


def wandb_rows(file: Path) -> list[dict[str, Any]]:
    """Return the history rows of an offline run's file."""
    rows = []
    for record in wandb_entries(file):
        if record.HasField("history"):
            items = record.history.item
            rows.append({"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items})
    return rows


def wandb(folder: Path, *, own: bool) -> Curves:
    """A W&B run, offline; with ``own`` the user logs rows, too, at steps of their own."""
    import wandb

    from gradreach.monitor.loggers import as_logger

    os.environ.update(WANDB_MODE="offline", WANDB_SILENT="true", WANDB_DIR=str(folder))
    run = wandb.init(project="proof", dir=str(folder))
    log = as_logger(run, rows_of_its_own=not own)
    for step in range(STEPS):
        log(numbers_of(step), step)
        if own and step % 5 == 4:
            run.log({"epoch_loss": float(step)}, step=step // 5)
    assert log.trouble is None, log.trouble
    run.finish()
    (file,) = folder.rglob("*.wandb")
    curves: Curves = {}
    for row in wandb_rows(file):
        step = row.get("gradreach/step", -1)
        for name, value in row.items():
            if name.startswith(("gradreach/", "epoch")) and name != "gradreach/step":
                curves.setdefault(name, {})[int(step)] = float(value)
    return curves


def mlflow(folder: Path, *, by_client: bool) -> Curves:
    """An MLflow run in SQLite, through the module or through a client."""
    import mlflow

    from gradreach.monitor.loggers import as_logger

    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    client = mlflow.MlflowClient()
    with mlflow.start_run() as run:
        log = as_logger(client, run_id=run.info.run_id) if by_client else as_logger(mlflow)
        assert log_all(log) is None, log.trouble
    return {
        name: {
            metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, name)
        }
        for name in client.get_run(run.info.run_id).data.metrics
    }


def trackio(folder: Path) -> Curves:
    """A trackio run; its database stands in a folder that the environment names."""
    os.environ["TRACKIO_DIR"] = str(folder)
    import trackio

    from gradreach.monitor.loggers import as_logger

    trackio.init(project="proof", name="run", embed=False)
    assert log_all(as_logger(trackio)) is None
    trackio.finish()
    from trackio.sqlite_storage import SQLiteStorage

    curves: Curves = {}
    for row in SQLiteStorage.get_logs("proof", "run"):
        for name, value in row.items():
            if name.startswith("gradreach/"):
                curves.setdefault(name, {})[int(row["step"])] = float(value)
    return curves


def table(folder: Path) -> Curves:
    """The CSV table, read by NumPy."""
    import numpy as np

    from gradreach.monitor.loggers import as_logger
    from gradreach.runs.csv_log import CsvLog

    assert log_all(as_logger(CsvLog(folder / "log.csv"))) is None
    read = np.genfromtxt(folder / "log.csv", delimiter=",", names=True, deletechars="")
    names = [name for name in read.dtype.names if name != "step"]
    return {
        name: dict(zip(map(int, read["step"]), map(float, read[name]), strict=True))
        for name in names
    }


def same(found: Curves, expected: Curves) -> bool:
    """Whether two sets of curves agree, NaN with NaN."""
    return found.keys() == expected.keys() and all(
        found[name].keys() == curve.keys()
        and all(
            value == found[name][step] or (math.isnan(value) and math.isnan(found[name][step]))
            for step, value in curve.items()
        )
        for name, curve in expected.items()
    )


def main() -> int:
    """Run them all and tell which curves came back."""
    warnings.filterwarnings("ignore")  # of the trackers', about each other's dependencies
    runs: dict[str, Callable[[Path], Curves]] = {
        "tensorboard": tensorboard,
        "wandb": lambda folder: wandb(folder, own=False),
        BESIDE: lambda folder: wandb(folder, own=True),
        "mlflow": lambda folder: mlflow(folder, by_client=False),
        "mlflow client": lambda folder: mlflow(folder, by_client=True),
        "trackio": trackio,
        "csv": table,
    }
    checks, errors = {}, {}
    for name, run in runs.items():
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = run(Path(folder))
            except Exception as error:  # noqa: BLE001  one tracker's failure is one line
                checks[f"{name}: every number comes back"] = False
                errors[name] = repr(error)
                continue
        expected = wanted()
        if name.startswith("mlflow"):  # its SQL stores have no infinities
            most = sys.float_info.max
            expected["gradreach/gradient_norm"] |= {5: most, 7: -most}
        held = same(found, expected)
        if name == BESIDE:
            users = found.pop("epoch_loss", {})
            held = sorted(users.values()) == [4.0, 9.0, 14.0, 19.0] and same(
                found, {key: {step: curve[step] for step in (9, 14, 19)}
                        for key, curve in expected.items()}
            )  # fmt: skip
        checks[f"{name}: every number comes back"] = held
        if not held:
            errors[name] = repr(found)[:2000]
    packages = ("tensorboard", "wandb", "mlflow", "trackio", "torch")
    failed = [name for name, held in checks.items() if not held]
    figures = {
        "checks": checks,
        "failed": failed,
        "error": "\n".join(f"{name}: {error}" for name, error in errors.items()),
        "versions": {name: version(name) for name in packages},
    }
    text = json.dumps(figures, indent=1)
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text + "\n", encoding="utf-8")
    else:
        print(text)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
