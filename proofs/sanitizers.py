"""The native core under the address, undefined-behaviour and thread sanitizers.

    ./dev proof sanitizers [address|thread ...]

Compiles csrc/ with csrc/tests/harness.cc for each sanitizer, runs every kernel, of layers and of
measuring, on small arrays (each an allocation of its own, of exactly the promised size; two callers
at once), and then shows that the sanitizer would have spoken: each planted bug must be reported, by
its name, from inside the kernels. Takes some minutes, nearly all of them compiling.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
SIGN = "csrc/"  # a frame of a kernel in a report; the harness's own are in csrc/tests/


@dataclass(frozen=True)
class Sanitizer:
    """A build of the harness, and the planted bugs it must report in these words."""

    flags: str
    planted: dict[str, str]


SANITIZERS = {
    "address": Sanitizer(
        "address,undefined",
        {
            "short-output": "heap-buffer-overflow",
            "odd-skips": "load of misaligned address",
            "short-scales": "heap-buffer-overflow",
        },
    ),
    "thread": Sanitizer("thread", {"shared-output": "data race"}),
}
# The first report ends the process with a code of its own.
SETTINGS = {
    "ASAN_OPTIONS": "exitcode=66:detect_leaks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    "TSAN_OPTIONS": "exitcode=66:halt_on_error=1",
}


def compiled(name: str, flags: str) -> Path:
    """Compile the harness under one sanitizer and return its path."""
    folder = ROOT / "build" / "sanitizers" / name
    tool = BIN / "cmake" if (BIN / "cmake").exists() else "cmake"
    defines = (f"-DGRADREACH_SANITIZE={flags}", "-DCMAKE_BUILD_TYPE=None")
    for command in (
        [tool, "-G", "Ninja", "-S", ROOT, "-B", folder, *defines],
        [tool, "--build", folder],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"The harness did not compile under {name}:\n{done.stdout}{done.stderr}")
    return folder / "harness"


def said(harness: Path, *words: str) -> tuple[int, str]:
    """Run the harness; return its exit code and all it wrote."""
    done = subprocess.run(
        [harness, *words],
        env={**os.environ, **SETTINGS},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def in_kernels(report: str) -> bool:
    """Whether a report names a place in the kernels, and not only one in the harness."""
    return any(SIGN in line and "csrc/tests/" not in line for line in report.splitlines())


def check(name: str, sanitizer: Sanitizer) -> bool:
    """Print one line for the clean run and one for each planted bug."""
    start = time.monotonic()
    harness = compiled(name, sanitizer.flags)
    print(f"{name}: compiled in {time.monotonic() - start:.0f} s", flush=True)
    code, output = said(harness)
    clean = code == 0 and "all agree" in output
    print(f"  all kernels    {'clean' if clean else 'REPORTED'}", flush=True)
    if not clean:
        print(output)
    right = clean
    for bug, words in sanitizer.planted.items():
        code, output = said(harness, bug)
        caught = code != 0 and words in output and in_kernels(output)
        print(f"  {bug:14s} {'caught: ' + words if caught else 'NOT CAUGHT'}", flush=True)
        if not caught:
            print(output)
        right = right and caught
    return right


def main() -> int:
    """Run the sanitizers that were asked for; all of them without arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SANITIZERS)}")
    names = parser.parse_args().names or list(SANITIZERS)
    if unknown := sorted(set(names) - set(SANITIZERS)):
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(SANITIZERS)}")
    results = [check(name, SANITIZERS[name]) for name in names]  # each of them, also after a fault
    return int(not all(results))


if __name__ == "__main__":
    sys.exit(main())
