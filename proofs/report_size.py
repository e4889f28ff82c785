"""Size and build time of reports, and how soon the live page shows what a training has done.

    ./dev proof report_size [--rows 100 10000 1000000] [--no-browser]

For each number of rows a run folder is written as a training writes it: journal, a sample each
1/200 of the run, two measured passes, findings. `read` is the journal into memory, `build` the
report from it, `size` of the page. The live figures come from a server in a process of its own
and a real Chromium: `first_curve` from the navigation to the first drawn curve, `lag` from the
return of the writer's `flush()` to the page having drawn that row, 40 times.
Promised: the last report in < 15 s and < 5 MB, a typical one <= 300 KB; first curve and lag < 1 s.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import gradreach
from gradreach.diagnosis.sightings import sightings_of
from gradreach.records import Event, Sample
from gradreach.report.run_report import write_run_report
from gradreach.runs.folder import RunFolder
from gradreach.runs.journal import JournalWriter
from gradreach.runs.run_record import read_run

RESULT = Path(__file__).parents[1] / "benchmarks" / "results" / "report_size.json"
MOST_SECONDS, MOST_BYTES, TYPICAL_BYTES, MOST_LAG = 15.0, 5_000_000, 300_000, 1.0
UPDATES = 40


def flow() -> gradreach.GradientFlow:
    """Measure a two-layer LSTM over 120 steps."""
    torch.manual_seed(0)
    model, x = torch.nn.LSTM(4, 32, 2), torch.randn(120, 8, 4)
    return gradreach.measure(model, lambda: model(x)[0][-1].square().mean())


def write_run(path: Path, rows: int) -> None:
    """Write a run of ``rows`` recorded steps with peaks, NaN and events."""
    folder = RunFolder(path)
    measured = flow()
    found = tuple(gradreach.diagnose(measured))
    noise = np.random.default_rng(0).lognormal(sigma=0.3, size=(rows, 2))
    every = max(rows // 200, 1)
    with JournalWriter(path, {"needs_lag": None}) as journal:
        for step in range(rows):
            loss = 2.0 * noise[step, 0] / (1 + 5 * step / rows)
            journal.row({
                "step": step, "loss": float("nan") if step == rows // 3 else loss,
                "gradient_norm": noise[step, 1], "clipped_norm": min(noise[step, 1], 1.0),
                "update_norm": 1e-3 * noise[step, 1], "weight_norm": 10.0,
                "learning_rate": 1e-3, "nonfinite": float(step == rows // 3),
            })  # fmt: skip
            if step % every == 0:
                journal.sample(Sample.of(measured, step, step, "cadence", found))
            if step % (10 * every) == 0:
                journal.event(Event(kind="jump", step=step, text="the gradient jumped"))
    folder.write_flow(0, measured.to_dict())
    folder.write_flow(rows, measured.to_dict())
    folder.write_meta({"state": "ended", "command": ["train.py"]})


def report(path: Path, rows: int) -> dict[str, Any]:
    """Build the report of a run folder; return what it took."""
    begun = time.perf_counter()
    record = read_run(path)
    read = time.perf_counter()
    assert record.history is not None
    sightings = sightings_of(record.history)
    asked = time.perf_counter()
    write_run_report(path / "report.html", "train.py", sightings, record.flows, [], record.history)
    done = time.perf_counter()
    return {
        "rows": rows,
        "journal_bytes": (path / "journal.jsonl").stat().st_size,
        "read_seconds": round(read - begun, 3),
        "diagnose_seconds": round(asked - read, 3),
        "build_seconds": round(done - asked, 3),
        "bytes": (path / "report.html").stat().st_size,
    }


def live(folder: Path) -> dict[str, Any]:
    """Open the live page of a growing run in Chromium; return first curve and lag in seconds."""
    from playwright.sync_api import sync_playwright

    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    step = 2_000
    with JournalWriter(folder) as journal, sync_playwright() as driver:
        for each in range(step):
            journal.row({"step": each, "loss": 1.0 / (each + 1)})
        journal.flush()
        command = [sys.executable, "-m", "gradreach", "serve", "--port", "0", "--json", str(folder)]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        url = json.loads(server.stdout.readline())["url"]
        browser = driver.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        page = browser.new_page()
        first, lags = [], []
        for _ in range(5):
            page.goto(url)
            while page.evaluate("document.documentElement.dataset.first ?? ''") == "":
                page.wait_for_timeout(5)
            first.append(int(page.evaluate("document.documentElement.dataset.first")) / 1000)
        for each in range(step, step + UPDATES):
            journal.row({"step": each, "loss": 1.0 / (each + 1)})
            journal.flush()
            begun = time.perf_counter()
            while page.evaluate("Number(document.querySelector('.run').dataset.rows)") <= each:
                page.wait_for_timeout(2)
            lags.append(time.perf_counter() - begun)
            page.wait_for_timeout(37 * (each % 7))  # not in step with the server's own rhythm
        browser.close()
        server.terminate()
        server.wait()
    return {
        "rows": step,
        "first_curve_seconds": {"median": statistics.median(first), "most": max(first)},
        "lag_seconds": {
            "median": round(statistics.median(lags), 3),
            "most": round(max(lags), 3),
            "updates": UPDATES,
        },
    }


def main() -> int:
    """Write the figures; return 1 where a promise is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100, 10_000, 1_000_000])
    parser.add_argument("--no-browser", action="store_true")
    chosen = parser.parse_args()
    reports = []
    with tempfile.TemporaryDirectory() as folder:
        for rows in chosen.rows:
            write_run(Path(folder) / str(rows), rows)
            reports.append(report(Path(folder) / str(rows), rows))
            print(reports[-1], flush=True)
        page = None if chosen.no_browser else live(Path(folder) / "live")
    print(page)
    result = {
        "command": f"./dev proof report_size {' '.join(sys.argv[1:])}".strip(),
        "machine": {"processor": platform.machine(), "system": platform.system(),
                    "python": platform.python_version(), "torch": torch.__version__},
        "reports": reports,
        "live": page,
    }  # fmt: skip
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    large = all(
        each["read_seconds"] + each["diagnose_seconds"] + each["build_seconds"] < MOST_SECONDS
        and each["bytes"] < MOST_BYTES
        for each in reports
    )
    typical = all(each["bytes"] <= TYPICAL_BYTES for each in reports if each["rows"] <= 10_000)
    quick = page is None or (
        page["first_curve_seconds"]["median"] < MOST_LAG and page["lag_seconds"]["most"] < MOST_LAG
    )
    return 0 if large and typical and quick else 1


if __name__ == "__main__":
    sys.exit(main())
