"""How fast the recurrent layers are, against torch.nn, a Python loop, JAX and the hardware.

    python benchmarks/layers.py [--quick] [--only SECTION] [--threads 1 2] [--shapes S1 …]
                                [--jax PYTHON] [--wheel FILE] [--docs PAGE] [--out FILE] [--keep]

Sections: speed (all shapes, against everything), steps (inside a training step), diagnostics,
ragged, fixed (cost of a call, first call, memory, wheel). JAX runs in the interpreter of --jax,
by default this one, where it can be imported. --docs rewrites the section "Layers" of a page.
--keep leaves the sections that are not measured as they stand in --out, with their own date.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from _layers import aside, report, speed
from _layers.pool import Pool
from _layers.problem import SHAPES
from _layers.targets import targets

RESULTS = Path(__file__).parent / "results" / "layers.json"
SECTIONS = ("speed", "steps", "diagnostics", "ragged", "fixed")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few samples: does it run?")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="may be repeated")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument(
        "--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES),
        help="of speed and diagnostics; with some left out no target over all shapes is judged",
    )  # fmt: skip
    parser.add_argument("--samples", type=int, default=16, help="of each case, at least")
    parser.add_argument("--jax", default=sys.executable, help="a Python that imports jax")
    parser.add_argument("--wheel", type=Path, help="a built wheel, for its size")
    parser.add_argument("--docs", type=Path, help="page whose section is rewritten")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--keep", action="store_true", help="other sections stay as they are")
    args = parser.parse_args()
    args.samples = 4 if args.quick else args.samples
    args.threads = sorted(set(args.threads))
    return args


def importable(python: str, module: str) -> bool:
    """Say whether an interpreter imports a module."""
    command = [python, "-c", f"import {module}"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def measured(args: argparse.Namespace, pool: Pool) -> dict[str, Any]:
    """Return the sections asked for."""
    most = args.threads[-1]
    shapes = {name: shape for name, shape in SHAPES.items() if name in args.shapes}
    found: dict[str, Any] = {}
    work = {
        "speed": lambda: speed.measure(pool, shapes, tuple(args.threads)),
        "steps": lambda: speed.steps(pool, most),
        "diagnostics": lambda: aside.diagnostics(pool, shapes, most, 0.5 if args.quick else 6.0),
        "ragged": lambda: aside.ragged(pool, most),
        "fixed": lambda: aside.fixed(pool, most, 1 if args.quick else 5, args.wheel),
    }
    for name in args.only or SECTIONS:
        print(f"{name} …", flush=True)
        start = time.perf_counter()
        found[name] = work[name]()
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    return found


def with_kept(new: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
    """Return a result with the sections of an older one that were not measured again."""
    when = {"date": old["date"], "command": old["command"]}
    stand = [name for name in SECTIONS if name in old and name not in new]
    earlier = old.get("earlier", {})
    kept = {name: earlier.get(name, when) for name in stand}
    return new | {name: old[name] for name in stand} | {"earlier": kept}


def about(args: argparse.Namespace, pool: Pool) -> dict[str, Any]:
    """Return machine, versions, command and date."""
    most = args.threads[-1]
    ours = pool.worker("own", most).ask("about")
    jax = pool.worker("autodiff", most).ask("about")["jax"] if pool.jax else None
    return {
        "command": shlex.join(["python", "benchmarks/layers.py", *shown(sys.argv[1:])]),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "quick": args.quick,
        "samples": args.samples,
        "threads": args.threads,
        "machine": {
            "cpu": cpu_name(),
            "cpus": os.cpu_count(),
            "processor": platform.machine(),
            "isa": ours["kernels"]["isa"] or "none: the reference path",
            "load": os.getloadavg() if hasattr(os, "getloadavg") else None,
        },
        "versions": {
            "python": platform.python_version(),
            "torch": ours["torch"],
            "gradreach": ours["gradreach"],
            "jax": jax,
        },
        "kernels": {k: v for k, v in ours["kernels"].items() if k != "openmp"},
        "peak_source": speed.peak_source(pool, most),
    }


def shown(words: list[str]) -> list[str]:
    """Return the command's words without the paths of this machine."""
    return [Path(word).name if word.startswith("/") else word for word in words]


def cpu_name() -> str:
    """Return the processor's name as the kernel tells it."""
    told = Path("/proc/cpuinfo")
    for line in told.read_text().splitlines() if told.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def main() -> None:
    """Measure, write the JSON, print the tables."""
    args = arguments()
    jax = args.jax if importable(args.jax, "jax") else None
    if jax is None:
        print("jax: missing in the interpreter of --jax; its rows are left out")
    pool = Pool(jax, rounds=-(-args.samples // 2), visit_seconds=0.002 if args.quick else 0.01)
    try:
        result = about(args, pool)
        result |= measured(args, pool)
        result["disturbed_share"] = pool.disturbed / max(pool.visits, 1)
    finally:
        pool.stop()
    if args.keep:
        result = with_kept(result, json.loads(args.out.read_text()))
    result["targets"] = [target.to_dict() for target in targets(result)]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(f"\n{report.section(result)}")
    if args.docs:
        args.docs.write_text(report.replaced(args.docs.read_text(), result))


if __name__ == "__main__":
    main()
