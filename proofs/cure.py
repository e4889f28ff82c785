"""How many faulty trainings `gradreach cure` repairs, and how many false cures it claims.

    ./dev proof cure [--part 1/4] [--only WORDS] [--jobs 2] [--studies FOLDER]

Runs the cure on every case of proofs/_cure/corpus.py: trainings with one fault each, of which a
person who knows the fault can repair every one, and trainings in which nothing is to be repaired.
A repairable one counts as cured where the winning treatment meets the case's criterion on three of
three seeds and the untreated script does not. Of the others none may be called cured; they are
judged without a criterion, which is harder. Every trial is kept in the studies' folder: what was
broken off goes on, and parts may be run one by one. Writes benchmarks/results/cure.json.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "proofs" / "_cure"
RESULTS = ROOT / "benchmarks" / "results" / "cure.json"
# In the place of this file's own folder, where cuda.py would answer torch's search for NVIDIA's.
sys.path = [str(CORPUS), *(place for place in sys.path if Path(place) != ROOT / "proofs")]
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch  # noqa: E402  (after the number of threads)
from corpus import CASES, METRIC, SEEDS, Case  # noqa: E402

from gradreach import __version__  # noqa: E402
from gradreach.trials.conduct import Plan  # noqa: E402
from gradreach.trials.cure import Cure, cure  # noqa: E402
from gradreach.trials.local import LocalPool  # noqa: E402
from gradreach.trials.metric import Metric  # noqa: E402
from gradreach.trials.spec import TrialSpec  # noqa: E402
from gradreach.trials.study import StudyError, opened_study  # noqa: E402
from gradreach.trials.target import ScriptTarget  # noqa: E402


def treated(case: Case, pool: LocalPool, studies: Path) -> dict[str, Any]:
    """Run the cure on one case; return what it came to."""
    base = TrialSpec(
        target=ScriptTarget(path=f"{case.script}.py", args=tuple(case.args.split()),
                            cwd=str(CORPUS)),
        metric=Metric(kind="regex", pattern=METRIC), timeout=300,
    )  # fmt: skip
    plan = Plan(seeds=SEEDS, finalists=3, criterion=case.criterion if case.repairable else None)
    name = "".join(letter if letter.isalnum() else "-" for letter in case.name)
    began = time.perf_counter()
    with opened_study(fresh(studies / name, base), base) as study:
        found = cure(base, plan, pool, study)
    return {"kind": case.kind, "name": case.name, "repairable": case.repairable,
            "criterion": case.criterion, **told(found),
            "wall_seconds": round(time.perf_counter() - began, 1)}  # fmt: skip


def fresh(folder: Path, base: TrialSpec) -> Path:
    """Return a folder for the study: another one where code or scripts have changed since."""
    for count in range(1, 1000):
        place = folder.with_name(f"{folder.name}-{count}")
        try:
            with opened_study(place, base):
                return place
        except StudyError:
            continue
    raise SystemExit(f"no folder for {folder}")


def told(found: Cure) -> dict[str, Any]:
    """Return the verdict with what it rests on."""
    comparison = found.comparison
    rows = {} if comparison is None else {
        each.treatment: [finite(t.metric) for t in comparison.full_trials(each.treatment)]
        for each in comparison.standings if each.seeds
    }  # fmt: skip
    return {
        "verdict": found.verdict,
        "winner": found.winner,
        "sentence": found.sentence,
        "findings": list(found.diagnosis.codes),
        "tried": [each.label for each in found.chosen.treatments],
        "metrics": rows,
        "cost": {} if comparison is None else dict(comparison.meta["cost"]),
    }


def finite(value: float) -> float | None:
    """Return a number that JSON can hold."""
    return value if math.isfinite(value) else None


def right(row: dict[str, Any]) -> bool:
    """Whether the verdict on a case is the right one."""
    if row["repairable"]:
        return row["verdict"] == "cured"
    return row["verdict"] != "cured"


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Count."""
    repairable = [row for row in rows if row["repairable"]]
    others = [row for row in rows if not row["repairable"]]
    return {
        "repairable": len(repairable),
        "kinds": len({row["kind"] for row in repairable}),
        "cured": sum(map(right, repairable)),
        "unrepairable_or_healthy": len(others),
        "false_cures": sum(not right(row) for row in others),
        "left_alone": sum(row["verdict"] == "healthy" for row in others),
    }


def write(rows: list[dict[str, Any]], arguments: list[str]) -> None:
    """Write all cases done so far, also those of earlier parts."""
    known = {}
    if RESULTS.exists():
        known = {row["name"]: row for row in json.loads(RESULTS.read_text())["cases"]}
    known |= {row["name"]: row for row in rows}
    ordered = [known[case.name] for case in CASES if case.name in known]
    RESULTS.write_text(json.dumps({
        "command": " ".join(["./dev proof cure", *arguments]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {"gradreach": __version__, "torch": torch.__version__},
        "threads": 1, "seeds": list(SEEDS), **summary(ordered), "cases": ordered,
    }, indent=1, default=str) + "\n")  # fmt: skip


def main() -> int:
    """Print one line a case; return 1 where a claim does not hold."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", default="1/1", help="such as 2/4: the second of four parts")
    parser.add_argument("--only", help="cases whose kind or name contains this")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--studies", type=Path, default=ROOT / "build" / "cure_studies")
    args = parser.parse_args()
    part, parts = map(int, args.part.split("/"))
    chosen = [case for case in CASES if not args.only or args.only in f"{case.kind}: {case.name}"]
    rows: list[dict[str, Any]] = []
    with LocalPool(args.jobs, threads=1) as pool:
        for case in chosen[part - 1 :: parts]:
            rows.append(treated(case, pool, args.studies))
            row = rows[-1]
            print(f"{'ok   ' if right(row) else 'WRONG'} {row['wall_seconds']:6.1f} s  "
                  f"{case.kind}: {case.name}\n        {row['sentence']}", flush=True)  # fmt: skip
            write(rows, sys.argv[1:])
    counted = summary(rows)
    print(json.dumps(counted))
    enough = counted["cured"] >= 0.9 * counted["repairable"]
    return int(not enough or counted["false_cures"] > 0)


if __name__ == "__main__":
    sys.exit(main())
