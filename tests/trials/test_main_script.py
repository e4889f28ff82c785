"""A function of the script that is being run, as most people write one, reaches its trials."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """\
import gradreach as gr
import torch


def build(seed):
    layer = torch.nn.RNN(1, 2)
    return 1.0 if isinstance(layer, torch.nn.GRU) else 2.0 + seed


if __name__ == "__main__":
    comparison = gr.compare(build, ["gating(GRU)"], seeds=2, jobs=2)
    print([(trial.treatment, trial.metric) for trial in comparison.trials])
"""


def test_function_of_the_main_script_is_found_in_fresh_processes(tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text(SCRIPT, encoding="utf-8")

    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=120,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == (
        "[('control', 2.0), ('gating(GRU)', 1.0), ('control', 3.0), ('gating(GRU)', 1.0)]"
    )
