"""What the machinery of trials adds to the trials themselves.

    ./dev bench trial_overhead

A study of 64 trials of one second each, two at a time: the time from the call of
`gradreach.compare` to its return, by half of the sum of the trials' own seconds. The trials sleep:
trials that compute would fight with the machinery, and with whatever else the machine does, for
its cores. The fork server's start (the imports of torch and of what optimizers need) is part of
the time, and is also told apart. The imports of the caller are not: whoever has written a function
that trains has imported torch.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

from _trial_overhead import sleeping

import gradreach
import gradreach.trials.compare
from gradreach.trials.worker import Worker

RESULTS = Path(__file__).parent / "results" / "trial_overhead.json"
JOBS = 2


def main() -> None:
    """Run the study and write its figures with their machine."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()

    with Worker(1) as worker:  # its pages lie in the system's cache afterwards, as they mostly do
        start = worker.wait_until_ready()
    begun = time.perf_counter()
    comparison = gradreach.compare(sleeping.second, [], seeds=args.trials, jobs=JOBS)
    seconds = time.perf_counter() - begun

    own = sum(trial.metric for trial in comparison.trials)
    ratio, without = seconds / (own / JOBS), (seconds - start) / (own / JOBS)
    each = (seconds - start - own / JOBS) * JOBS / args.trials
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    print(
        f"{args.trials} trials, {JOBS} at a time: {seconds:.1f} s for {own / JOBS:.1f} s of "
        f"trials: ×{ratio:.3f}; without the start of {start:.1f} s ×{without:.3f}, "
        f"{1000 * each:.0f} ms a trial (load average {load:.1f})"
    )
    args.out.write_text(
        json.dumps(
            {
                "command": f"./dev bench trial_overhead --trials {args.trials}",
                "machine": {"processor": platform.machine(), "cpus": os.cpu_count()},
                "python": platform.python_version(),
                "torch": version("torch"),
                "load_average": load,
                "trials": args.trials,
                "jobs": JOBS,
                "seconds": seconds,
                "seconds_of_trials": own,
                "start_seconds": start,
                "ratio": ratio,
                "ratio_without_start": without,
                "seconds_a_trial": each,
            },
            indent=1,
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
