"""A long run does not grow under the watch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.script.twins import SCRIPTS, meta, watched

# Over the last 1,200 passes, 120 of them sampled: 0.08 MB without us, 0.12 MB watched. With the
# graphs of the calls kept alive by their records it was 16 MB.
GROWTH = 2 * 2**20


@pytest.mark.slow
def test_resident_memory_of_a_long_run_stays_level(
    tmp_path: Path, lacks: Callable[[str], object]
) -> None:
    if not Path("/proc/self/statm").exists():
        lacks("/proc/self/statm")

    done, folder = watched(tmp_path, SCRIPTS / "long_run.py", options=["--every", 10])

    assert meta(folder)["samples"] == 202
    marks = [int(word) for word in done.files["memory.txt"].split()]
    # The first 800 passes fill what torch and Python keep for themselves.
    assert marks[-1] - marks[1] < GROWTH, marks
