"""How often the right fault of a training is named first, and how often a healthy one alarms.

    ./dev proof training_faults [--parts faults scalings rates] [--seeds 100 101] [--keep FOLDER]

Runs the fault set over training (tests/faults/training) with seeds that the thresholds were not
set with; one fault of each kind again under the four scalings; and a grid of learning rates from
1e-5 to 10 over optimizers, cells and tasks, where the truth is what the runs themselves came to.
Writes benchmarks/results/training_faults.json, part by part. With --keep each history is stored
in the folder, and one that is there is judged again instead of trained again; with --kept nothing
is trained, and only what is there is judged.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# The fault set is part of the tests. In the place of this folder: torch would take cuda.py in it
# for the package of that name.
sys.path[0] = str(ROOT)

import torch  # noqa: E402  (after the path is set)
from tests.faults.training.corpus import FAULTS  # noqa: E402
from tests.faults.training.fault import adam, rmsprop, sgd  # noqa: E402
from tests.faults.training.scaled import SCALED  # noqa: E402
from tests.faults.training.tasks import TASKS, step_reader  # noqa: E402
from tests.faults.training.training import Loop, train  # noqa: E402
from tests.faults.training.verdict import alarms, is_found, reasons  # noqa: E402

import gradreach as gr  # noqa: E402
from gradreach.diagnosis.course import course  # noqa: E402
from gradreach.records import History  # noqa: E402
from gradreach.runs.plain_json import dumps, loads  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "training_faults.json"
PARTS = ("faults", "scalings", "rates")
OPTIMIZERS: dict[str, Callable[[float], Any]] = {
    "adam": adam,
    "sgd": sgd,
    "momentum": lambda rate: sgd(rate, 0.9),
    "rmsprop": rmsprop,
}
RATES = [factor * 10.0**power for power in range(-5, 1) for factor in (1, 3)] + [10.0]

# Of what the best rate of a row takes off the loss: at least half is right, less than 15 % is
# wrong; between the two a rate is neither, and counts for nothing.
RIGHT, WRONG = 0.5, 0.15
LEARNABLE = 0.6  # of the loss left by the best rate: where more is left, no rate learns the task


def is_kept(keep: Path | None, name: str) -> bool:
    """Whether a history need not be trained for."""
    return keep is not None and (keep / (name.replace("/", "_") + ".json")).exists()


def watched(keep: Path | None, name: str, build: Callable[[], Loop]) -> History:
    """Train, or read the history that was kept."""
    place = None if keep is None else keep / (name.replace("/", "_") + ".json")
    if place is not None and place.exists():
        return History.from_dict(loads(place.read_text()))
    history, _ = train(build())
    if place is not None:
        place.write_text(dumps(history.to_dict()))
    return history


def told(findings: list[gr.Finding]) -> list[str]:
    """Return findings in a word or two each."""
    return [f"{found.severity} {found.code}" for found in findings]


def judged_faults(seeds: list[int], keep: Path | None) -> dict[str, Any]:
    """Run every fault and every twin."""
    count = {"faults": 0, "found": 0, "twins": 0, "quiet": 0, "stagnate": 0, "say_why": 0}
    wrong = []
    for fault in FAULTS:
        for seed in seeds:
            for faulty in (True, False):
                name = f"{fault} {seed} {'fault' if faulty else 'twin'}"
                history = watched(keep, name, lambda f=fault, s=seed, y=faulty: f.build(s, y))
                found = gr.diagnose(history)
                good = is_found(fault, found) if faulty else not alarms(found)
                count["faults" if faulty else "twins"] += 1
                count["found" if faulty else "quiet"] += good
                if faulty and good and fault.carries and "stagnated-training" in found[0].explains:
                    count["stagnate"] += 1
                    count["say_why"] += fault.carries in reasons(found[0])
                if not good:
                    wrong.append({"training": name, "expected": fault.code if faulty else None,
                                  "found": told(found)})  # fmt: skip
                    print(f"  {name}: {told(found)}", flush=True)
    return {**count, "seeds": seeds, "kinds": len({fault.kind for fault in FAULTS}),
            "configurations": len(FAULTS), "wrong": wrong}  # fmt: skip


def judged_scalings(seeds: list[int], keep: Path | None, kept: bool = False) -> dict[str, Any]:
    """Run one fault of each kind, and its twin, under every scaling, against the plain run."""
    first = {fault.kind: fault for fault in reversed(FAULTS)}
    changed, count = [], 0
    for faulty in (True, False):
        for fault in first.values():
            base = f"{fault} {seeds[0]} {'fault' if faulty else 'twin'}"

            def plain(fault: Any = fault, faulty: bool = faulty) -> Loop:
                return fault.build(seeds[0], faulty)

            if kept and not is_kept(keep, base):
                continue
            before = gr.diagnose(watched(keep, base, plain))
            for scaling, how in SCALED.items():
                name = f"{base} {scaling}"
                if kept and not is_kept(keep, name):
                    continue
                after = gr.diagnose(watched(keep, name, lambda h=how, p=plain: h(p())))
                same = alarms(before)[:1] == alarms(after)[:1]
                count += 1
                if not same:
                    changed.append({"training": name, "plain": told(before), "scaled": told(after)})
                    print(f"  {name}: {told(before)} became {told(after)}", flush=True)
    return {"runs": count, "of": 2 * len(first) * len(SCALED), "unchanged": count - len(changed),
            "seed": seeds[0], "scalings": list(SCALED), "changed": changed}  # fmt: skip


def grid(seed: int, keep: Path | None) -> Iterator[tuple[str, dict[float, History]]]:
    """Yield each row of the grid: a task, a cell and an optimizer, over all rates."""
    for task in ("fixed", "echo"):
        for kind, make in OPTIMIZERS.items():
            for cell in ("rnn", "lstm", "gru"):
                row = {}
                for rate in RATES:

                    def build(
                        task: str = task, make: Any = make, cell: str = cell, rate: float = rate
                    ) -> Loop:
                        torch.manual_seed(seed)
                        batch = TASKS[task](seed, T=20, B=8)
                        return Loop(step_reader(cell), batch, make(rate), steps=120)

                    row[rate] = watched(keep, f"{task} {kind} {cell} {seed} {rate:g}", build)
                yield f"{task} {kind} {cell}", row


def truth(row: dict[float, History]) -> dict[float, str]:
    """Return what each rate is, by what the runs came to."""
    ran = {rate: course(history) for rate, history in row.items()}
    ends = {rate: float("inf") if own.broken is not None else own.end for rate, own in ran.items()}
    start = min(own.start for own in ran.values())
    best = min(ends, key=lambda rate: ends[rate])
    if ends[best] > LEARNABLE * start:
        return dict.fromkeys(row, "nothing learned at any rate")
    kinds = {}
    for rate, end in ends.items():
        share = (start - end) / (start - ends[best])
        side = "too high" if rate > best else "too low"
        kinds[rate] = "right" if share >= RIGHT else side if share < WRONG else "neither"
    return kinds


def verdict(found: list[gr.Finding]) -> str:
    """Return what is said about the rate, as a finding or carried by one; notes do not count."""
    codes = alarms(found) + [code for each in found if each.severity != "note"
                             for code in each.explains]  # fmt: skip
    if "learning-rate-too-high" in codes:
        return "too high"
    return "too low" if "learning-rate-too-low" in codes else "right"


def judged_rates(seeds: list[int], keep: Path | None) -> dict[str, Any]:
    """Compare the verdict on each rate of the grid with what it came to."""
    table: dict[str, dict[str, int]] = {}
    wrong = []
    for name, row in grid(seeds[0], keep):
        kinds = truth(row)
        for rate, history in row.items():
            said = verdict(gr.diagnose(history))
            counts = table.setdefault(kinds[rate], {})
            counts[said] = counts.get(said, 0) + 1
            if kinds[rate] in ("right", "too high", "too low") and said != kinds[rate]:
                wrong.append({"run": f"{name} {rate:g}", "is": kinds[rate], "said": said})
                print(f"  {name} {rate:g} is {kinds[rate]}, said {said}", flush=True)
    decided = sum(sum(table.get(kind, {}).values()) for kind in ("right", "too high", "too low"))
    fine = table.get("right", {})
    return {"seed": seeds[0], "decided": decided, "correct": decided - len(wrong),
            "false_alarms": sum(fine.values()) - fine.get("right", 0),
            "right_rates": sum(fine.values()), "said_by_truth": table, "wrong": wrong}  # fmt: skip


JUDGES = {"faults": judged_faults, "scalings": judged_scalings, "rates": judged_rates}


def main() -> None:
    """Run the parts that were asked for, and write what came of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[100, 101])
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--kept", action="store_true", help="of the scalings: train nothing more")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of torch, about the order of schedulers and the like
    torch.set_num_threads(1)
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for part in options.parts:
        started = time.perf_counter()
        print(part, flush=True)
        how = {"kept": True} if part == "scalings" and options.kept else {}
        results[part] = JUDGES[part](options.seeds, options.keep, **how)
        results[part]["seconds"] = round(time.perf_counter() - started, 1)
        results["torch"], results["machine"] = torch.__version__, platform.machine()
        results["cores"] = os.cpu_count()
        RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
        print(json.dumps({key: value for key, value in results[part].items()
                          if key not in ("wrong", "changed")}, ensure_ascii=False))  # fmt: skip


if __name__ == "__main__":
    main()
