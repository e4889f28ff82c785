"""Every adapter in its framework, beside the plain loop: the same norms, clip rate and reach.

    ./dev proof adapters [lightning skorch ...]

Each framework is installed into an environment of its own under build/adapters (they pin each
other's dependencies out; some gigabytes and minutes the first time), where proofs/_adapters/
trains the same network four times: by a plain loop and by the framework, unwatched and watched.
What must agree is listed there, in compare.py. Writes benchmarks/results/adapters.json; a
framework that cannot be installed fails under its name.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENTS = ROOT / "build" / "adapters"
RESULTS = ROOT / "benchmarks" / "results" / "adapters.json"
CONSTRAINTS = ROOT / "constraints.txt"
SECONDS = 600  # for one framework's trainings; they take some seconds each


@dataclass(frozen=True)
class Framework:
    """A script of proofs/_adapters, and the environment that it runs in.

    Args:
        environment: Name of its folder; two scripts may share one.
        requirements: What is installed there beside gradreach's own dependencies. The versions
            are those that the adapters were written against.
    """

    environment: str
    requirements: tuple[str, ...]


HUGGING_FACE = Framework("transformers", ("transformers==5.23.0", "accelerate==1.15.0"))
FRAMEWORKS = {
    "lightning": Framework("lightning", ("lightning==2.6.6", "pytorch-lightning==2.6.6")),
    "transformers": HUGGING_FACE,
    "accelerate": HUGGING_FACE,
    "skorch": Framework("skorch", ("skorch==1.4.0",)),
    "darts": Framework("darts", ("darts[torch]==0.48.1",)),
    "neuralforecast": Framework("neuralforecast", ("neuralforecast==3.3.0",)),
    "sb3": Framework("sb3", ("sb3-contrib==2.9.2", "stable-baselines3==2.9.2")),
    "keras": Framework("keras", ("keras==3.15.1",)),
    "loggers": Framework(
        "loggers", ("tensorboard==2.21.0", "wandb==0.31.0", "mlflow==3.17.2", "trackio==0.43.0")
    ),
}


# ---- environments


def dependencies() -> list[str]:
    """Return what gradreach itself needs, from its pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return list(project["dependencies"])


def stamp_of(framework: Framework) -> str:
    """Tell what an up-to-date environment was made from, and where."""
    made_from = [
        str(ENVIRONMENTS),
        sys.version,
        *framework.requirements,
        *dependencies(),
        hashlib.sha256(CONSTRAINTS.read_bytes()).hexdigest(),
    ]
    return "\n".join(made_from) + "\n"


def environment_of(framework: Framework) -> Path | str:
    """Return the environment's Python, made where it does not stand; else pip's last words."""
    folder = ENVIRONMENTS / framework.environment
    python, stamp = folder / "bin" / "python", folder / "gradreach-installed"
    wanted = stamp_of(framework)
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"Installing {', '.join(framework.requirements)} …", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    install = (
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         "-c", str(CONSTRAINTS), *framework.requirements, *dependencies()],
    )  # fmt: skip
    for command in install:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return "\n".join((done.stdout + done.stderr).splitlines()[-8:])
    stamp.write_text(wanted)
    return python


# ---- runs


def run(name: str, framework: Framework) -> dict[str, Any]:
    """Run one framework's script; return its figures, or why there are none."""
    python = environment_of(framework)
    if isinstance(python, str):
        return {"failed": ["installation"], "error": python}
    out = ENVIRONMENTS / f"{name}.json"
    out.unlink(missing_ok=True)
    # Started as a module from the root: a script's own folder would come first in the search, and
    # its file `lightning.py` stand for Lightning. The source tree is the gradreach it finds.
    command = [str(python), "-m", f"proofs._adapters.{name}", str(out)]
    foreign = ("PYTHON", "GRADREACH_")
    variables = {key: each for key, each in os.environ.items() if not key.startswith(foreign)}
    variables |= {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    started = time.perf_counter()
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False,
            timeout=SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"failed": [f"no end within {SECONDS} s"]}
    if not out.exists():
        return {"failed": ["the script"], "error": "\n".join(done.stderr.splitlines()[-15:])}
    figures = json.loads(out.read_text(encoding="utf-8"))
    figures["seconds"] = round(time.perf_counter() - started, 1)
    if done.returncode and not figures["failed"]:
        figures["failed"] = [f"exit code {done.returncode}"]
    return dict(figures)


def told(name: str, figures: dict[str, Any]) -> str:
    """Say in a line or some how a framework did."""
    failed = figures["failed"]
    versions = " ".join(f"{key} {each}" for key, each in figures.get("versions", {}).items())
    held = len(figures.get("checks", {}))
    line = f"{name:16s} {'FAILED' if failed else f'{held} checks hold'}  {versions}"
    return "\n  ".join([line, *failed, *figures.get("error", "").splitlines()])


def main() -> int:
    """Run the frameworks named, or all; write what they told."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", help=f"of {', '.join(FRAMEWORKS)}; default: all")
    names = parser.parse_args().names or list(FRAMEWORKS)
    unknown = [name for name in names if name not in FRAMEWORKS]
    if unknown:
        parser.error(f"no adapter is called {unknown[0]}; there is {', '.join(FRAMEWORKS)}")
    figures = {}
    for name in names:
        figures[name] = run(name, FRAMEWORKS[name])
        print(told(name, figures[name]), flush=True)
    known = (
        json.loads(RESULTS.read_text(encoding="utf-8"))["frameworks"] if RESULTS.exists() else {}
    )
    record = {
        "command": "./dev proof adapters",
        "machine": {"processor": platform.machine(), "cpus": os.cpu_count()},
        "python": platform.python_version(),
        "frameworks": {**known, **figures},
    }
    RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    failed = [name for name in names if figures[name]["failed"]]
    print(f"{len(names) - len(failed)} of {len(names)} adapters hold." + (
        f" Failed: {', '.join(failed)}." if failed else ""
    ))  # fmt: skip
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
