"""Whether each case of the corpus is what it is said to be, without gradreach.

    python proofs/_cure/calibrate.py [--only WORDS] [--json FILE]

Runs every case as it is, and as repaired by hand, on three seeds in this process and one thread;
prints the errors. A repairable case must miss its criterion on each seed and meet it on each when
repaired; a healthy one must meet it; of the others the criterion must be missed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import platform
import re
import runpy
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path[0] = str(FOLDER)  # the corpus beside this file, wherever it is started

import torch  # noqa: E402  (after the path is set)
from corpus import CASES, METRIC, SEEDS, Case  # noqa: E402


def error_of(script: str, args: str, seed: int) -> float:
    """Run a script to its end; return what it prints, infinity where it breaks."""
    before, output = sys.argv, io.StringIO()
    sys.argv = [script, *args.split(), "--seed", str(seed)]
    try:
        with contextlib.redirect_stdout(output):
            runpy.run_path(str(FOLDER / f"{script}.py"), run_name="__main__")
    except RuntimeError:  # of autograd: a graph that was freed
        return float("inf")
    finally:
        sys.argv = before
    found = re.findall(METRIC, output.getvalue())
    return float(found[-1])


def calibrated(case: Case) -> dict[str, object]:
    """Run a case; return its errors and whether it is what it should be."""
    began = time.process_time()
    as_it_is = [error_of(case.script, case.args, seed) for seed in SEEDS]
    seconds = (time.process_time() - began) / len(SEEDS)
    repaired = [error_of(case.script, case.by_hand, seed) for seed in SEEDS] if case.by_hand else []
    bound = case.criterion if case.criterion is not None else float("-inf")
    met = [error <= bound for error in as_it_is]
    right = all(met) if case.healthy else not any(met)
    right &= all(error <= bound for error in repaired)
    return {"kind": case.kind, "name": case.name, "criterion": case.criterion, "errors": as_it_is,
            "repaired": repaired, "seconds": round(seconds, 2), "right": right}  # fmt: skip


def main() -> int:
    """Print the table; return 1 where a case is not what it should be."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", help="cases whose kind or name contains this")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for case in CASES:
        if args.only and args.only not in f"{case.kind}: {case.name}":
            continue
        rows.append(calibrated(case))
        row = rows[-1]
        print(f"{'ok   ' if row['right'] else 'WRONG'} {row['seconds']:4.1f} s  {case.kind}: "
              f"{case.name}\n        {_told(row['errors'])} -> {_told(row['repaired'])}  "
              f"(criterion {case.criterion})", flush=True)  # fmt: skip
    right = sum(bool(row["right"]) for row in rows)
    print(f"{right} of {len(rows)} cases are what they should be")
    if args.json:
        machine = {"machine": platform.machine(), "torch": torch.__version__, "threads": 1}
        args.json.write_text(json.dumps({**machine, "cases": rows}, indent=1) + "\n")
    return int(right < len(rows))


def _told(errors: object) -> str:
    assert isinstance(errors, list)
    return " ".join(f"{error:.4g}" for error in errors) or "-"


if __name__ == "__main__":
    sys.exit(main())
