"""How far back three cells learn, and how far back their gradient reaches.

    ./dev proof place_language [--steps 1500] [--seeds 0 1 2]

Runs examples/place_language.py, as it is, under `gradreach diagnose` for a tanh RNN, an LSTM and
a chrono LSTM, and sets the accuracy at each distance beside the reach of the gradient in the
first and in the last sample of the training. Writes benchmarks/results/place_language.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from gradreach.records import GradientFlow
from gradreach.runs.plain_json import loads

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "place_language.json"
CELLS = ("rnn", "lstm", "chrono")
ROW = re.compile(r"^\s*(\d+)\s+([\d.]+)\s+([\d.]+)\s+([\d.]+)\s+([\d.]+)$", re.MULTILINE)


def run(cell: str, seed: int, steps: int) -> dict[str, Any]:
    """Run one training, watched, and return its table and its reaches."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "run"
        options = ["--every", str(max(1, steps // 20)), "--run", str(place)]
        script = [str(ROOT / "examples" / "place_language.py"), "--cell", cell]
        command = [sys.executable, "-m", "gradreach", "diagnose", *options, *script,
                   "--seed", str(seed), "--steps", str(steps)]  # fmt: skip
        started = time.perf_counter()
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=False,
        )  # fmt: skip
        seconds = time.perf_counter() - started
        rows = ROW.findall(done.stdout)
        if done.returncode not in (0, 1) or not rows:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
        flows = [GradientFlow.from_dict(loads(path.read_text()))
                 for path in sorted((place / "flows").glob("*.json"))]  # fmt: skip
        found = loads((place / "findings.json").read_text())["findings"]
    layers = [next(iter(flow.layers.values())) for flow in flows]
    # A sentence is as long as its distance asks, and a short one cannot show a long reach.
    longest = max(layer.steps for layer in layers)
    long = [
        (flow.meta["step"], layer.reach() or 0, float(layer.lag_profile[10]))
        for flow, layer in zip(flows, layers, strict=True)
        if layer.steps > longest // 3
    ]
    return {
        "cell": cell,
        "seed": seed,
        "accuracy": {
            row[0]: {
                "place_to_language": float(row[1]),
                "language_to_place": float(row[2]),
                "majority": float(row[3]),
            }
            for row in rows
        },
        "longest": longest,
        "samples": [
            {"step": step, "reach": reach, "left_at_10": left} for step, reach, left in long
        ],
        "reach": statistics.median(reach for _, reach, _ in long),
        "findings": [(finding["code"], finding["seen"]["samples"]) for finding in found],
        "seconds": seconds,
    }


def main() -> None:
    """Run all trainings and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    rows = []
    for cell in CELLS:
        for seed in args.seeds:
            row = run(cell, seed, args.steps)
            rows.append(row)
            table = "  ".join(
                f"{distance}: {told['place_to_language']:.2f}/{told['language_to_place']:.2f}"
                for distance, told in row["accuracy"].items()
            )
            print(
                f"{cell:6} seed {seed}  {table}   reach {row['reach']:.0f} of {row['longest']} "
                f"({' '.join(str(sample['reach']) for sample in row['samples'])})  "
                f"{row['findings']}  "
                f"{row['seconds']:.0f} s",
                flush=True,
            )
    result = {
        "command": f"./dev proof place_language --steps {args.steps}",
        "machine": {"processor": platform.machine(), "cpus": os.cpu_count()},
        "python": platform.python_version(),
        "rows": rows,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
