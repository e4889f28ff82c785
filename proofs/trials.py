"""Trials under fire: the same table from any number of processes, whatever is killed.

    ./dev proof trials [jobs] [kills] [ray]

A study of 4 treatments (the control among them) x 8 seeds is run undisturbed on one job, and again

- on two jobs (`jobs`);
- on two jobs while 20 trials are killed at random moments, and the driver 5 times, each time
  started again with the same command (`kills`);
- on a Ray cluster of three nodes on this machine, one of which is killed half-way (`ray`).

Every table must equal the first one in each number that no clock had a part in, and every study
must hold each trial's result once.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Not proofs/ itself: its cuda.py would answer torch's search for NVIDIA's package `cuda`.
HERE = Path(__file__).resolve().parent / "_trials"
RESULTS = HERE.parents[1] / "benchmarks" / "results" / "trials.json"
EXPECTED = 4 * 8  # killed_study.py: three treatments and the control, eight seeds
KILLS, DRIVERS = 20, 5


def start(folder: Path, how: str) -> subprocess.Popen[bytes]:
    """Start a driver on a study of its own."""
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH", "")]))
    return subprocess.Popen(
        [sys.executable, "-m", "killed_study", folder / "study", folder / "out.json", how],
        env={**os.environ, "PYTHONPATH": path},
    )


def table_of(folder: Path) -> Any:
    """Return what a driver found."""
    return json.loads((folder / "out.json").read_text())


def results_in(folder: Path) -> int:
    """Count the results that a study holds."""
    return len(list((folder / "study" / "trials").glob("*/result.json")))


def processes() -> Iterator[tuple[int, int]]:
    """Yield process ids with their parents'."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        yield int(path.parent.name), int(fields[1])


def trials_of(driver: int) -> list[int]:
    """Return the trials that a driver's fork server runs now."""
    parents = dict(processes())
    servers = [pid for pid, parent in parents.items() if parent == driver]
    return sorted(pid for pid, parent in parents.items() if parent in servers)


def undisturbed(folder: Path, how: str) -> Any:
    """Run the study in peace."""
    driver = start(folder, how)
    if driver.wait():
        sys.exit(f"the undisturbed study ({how}) ended with {driver.returncode}")
    return table_of(folder)


def under_kills(folder: Path, choose: random.Random) -> tuple[int, int]:
    """Run the study while trials and drivers are killed; return how many of each were."""
    kills = drivers = 0
    driver = start(folder, "2")
    # Spread over the study: a driver dies after so many results, trials in between.
    deaths = sorted(choose.sample(range(2, EXPECTED - 2), DRIVERS))
    while driver.poll() is None or drivers < DRIVERS:
        if driver.poll() is not None:
            sys.exit(f"the study ended before all was killed: {kills} trials, {drivers} drivers")
        time.sleep(choose.uniform(0.05, 0.4))
        if drivers < DRIVERS and results_in(folder) >= deaths[drivers]:
            driver.send_signal(signal.SIGKILL)
            driver.wait()
            drivers += 1
            driver = start(folder, "2")
            continue
        running = trials_of(driver.pid)
        due = KILLS * (results_in(folder) + 1) / EXPECTED
        if running and kills < min(KILLS, due + 1):
            os.kill(choose.choice(running), signal.SIGKILL)
            kills += 1
    if driver.returncode:
        sys.exit(f"the last driver ended with {driver.returncode}")
    return kills, drivers


def on_ray(folder: Path) -> Any:
    """Run the study on three nodes, and kill one when half of the results are there."""
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # The nodes import the study's module by name, as nodes import an installed package.
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(HERE), os.environ.get("PYTHONPATH", "")])
    )
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    nodes = [cluster.add_node(**node) for _ in range(2)]
    try:
        driver = start(folder, f"ray={cluster.address}")
        while driver.poll() is None and results_in(folder) < EXPECTED // 2:
            time.sleep(0.05)
        if driver.poll() is not None:
            sys.exit("the study on Ray ended before a node was killed")
        cluster.remove_node(nodes[-1], allow_graceful=False)
        print(f"a node was killed with {results_in(folder)} of {EXPECTED} results there")
        if driver.wait():
            sys.exit(f"the study on Ray ended with {driver.returncode}")
        return table_of(folder)
    finally:
        cluster.shutdown()


def main() -> None:
    """Run the parts that were asked for, and compare their tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=["jobs", "kills", "ray", []])
    parser.add_argument("--seed", type=int, default=20130616)
    given = parser.parse_args()
    parts, choose = given.parts or ["jobs", "kills", "ray"], random.Random(given.seed)
    told: dict[str, Any] = {"parts": {}}
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        first = timed(told, home, "one", lambda folder: undisturbed(folder, "1"))
        if "jobs" in parts:
            check(first, timed(told, home, "jobs", lambda folder: undisturbed(folder, "2")))
        if "kills" in parts:
            killed = timed(told, home, "kills", lambda folder: under_kills(folder, choose))
            told["killed"] = {"trials": killed[0], "drivers": killed[1]}
            check(first, table_of(home / "kills"))
            print(f"{killed[0]} trials and {killed[1]} drivers killed: the table is the same")
        if "ray" in parts:
            check(first, timed(told, home, "ray", on_ray))
        for folder in home.iterdir():
            if results_in(folder) != EXPECTED:
                sys.exit(f"{folder.name}: {results_in(folder)} results, not {EXPECTED}")
    print(f"{len(told['parts'])} studies of {EXPECTED} trials: identical tables, each trial once")
    told |= {
        "command": f"./dev proof trials {' '.join(given.parts)}".strip(),
        "seed": given.seed,
        "trials": EXPECTED,
        "identical": True,
        "machine": {"processor": platform.machine(), "cpus": os.cpu_count()},
        "python": platform.python_version(),
        "torch": version("torch"),
        "ray": version("ray") if "ray" in parts else None,
    }
    # Parts may be run apart; each keeps its own figures.
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept[" ".join(parts)] = told
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")


def timed(told: dict[str, Any], home: Path, name: str, run: Any) -> Any:
    """Run a part in a folder of its own, and note its seconds."""
    (home / name).mkdir()
    begun = time.perf_counter()
    found = run(home / name)
    told["parts"][name] = {"seconds": round(time.perf_counter() - begun, 1)}
    print(f"{name}: {told['parts'][name]['seconds']} s", flush=True)
    return found


def check(first: Any, other: Any) -> None:
    """End where the tables differ."""
    if first != other:
        kept = Path(tempfile.mkdtemp(prefix="gradreach-trials-"))
        (kept / "first.json").write_text(json.dumps(first, indent=1))
        (kept / "other.json").write_text(json.dumps(other, indent=1))
        sys.exit(f"the tables differ: see {kept}")


if __name__ == "__main__":
    main()
