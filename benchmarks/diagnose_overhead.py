"""What `gradreach diagnose` adds to the wall time of a training script.

    python benchmarks/diagnose_overhead.py [--steps 1200] [--rounds 2] [--out FILE]

Runs examples/next_word.py --cell lstm plainly and under `gradreach diagnose`, both at once, each on
a core of its own, and changes the cores every round: what else the machine does then meets both
alike, and a faster core favours each as often as the other. The ratio is the geometric mean.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).parent / "results" / "diagnose_overhead.json"


def round_of(script: list[str], cores: tuple[int, int]) -> dict[str, Any]:
    """Run both at once; return their seconds and what the watched one says of itself."""
    with tempfile.TemporaryDirectory() as folder:
        watched = ["-m", "gradreach", "diagnose", "--run", f"{folder}/run"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        started = time.perf_counter()
        running = {
            name: subprocess.Popen(
                ["taskset", "-c", str(core), sys.executable, *before, *script],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                text=True,
            )
            for name, before, core in (("plain", [], cores[0]), ("diagnosed", watched, cores[1]))
        }
        seconds: dict[str, float] = {}
        while len(seconds) < len(running):
            for name, process in running.items():
                if name not in seconds and process.poll() is not None:
                    seconds[name] = time.perf_counter() - started
            time.sleep(0.02)
        outputs = {name: process.communicate() for name, process in running.items()}
        meta = json.loads((Path(folder) / "run" / "meta.json").read_text())
    if outputs["plain"][0] != outputs["diagnosed"][0]:
        raise SystemExit("the script printed something else under diagnose")
    return {
        "plain_seconds": seconds["plain"],
        "diagnosed_seconds": seconds["diagnosed"],
        "ratio": seconds["diagnosed"] / seconds["plain"],
        "told_share": meta["watching_share"],
        "samples": meta["samples"],
        "passes": meta["passes"],
        "cores": cores,
    }


def main() -> None:
    """Run the rounds and write them with their machine."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    script = [str(ROOT / "examples" / "next_word.py"), "--cell", "lstm", "--steps",
              str(args.steps)]  # fmt: skip
    rounds = []
    for number in range(args.rounds):
        rounds.append(round_of(script, (0, 1) if number % 2 == 0 else (1, 0)))
        print(rounds[-1], flush=True)
    ratios = [row["ratio"] for row in rounds]
    ratio = math.exp(sum(map(math.log, ratios)) / len(ratios))
    print(f"ratio {ratio:.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
    result = {
        "command": f"python benchmarks/diagnose_overhead.py --steps {args.steps} "
        f"--rounds {args.rounds}",
        "machine": {"processor": platform.machine(), "cpus": os.cpu_count()},
        "python": platform.python_version(),
        "torch": version("torch"),
        "ratio": ratio,
        "ratio_range": [min(ratios), max(ratios)],
        "rounds": rounds,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
