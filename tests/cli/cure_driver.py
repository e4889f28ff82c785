"""Drives `gradreach cure` as a user does: from a shell, on a script, with Ctrl-C."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

# A ReLU whose recurrence grows: the untreated training ends in NaN, a clipped one learns.
GROWING = """
import torch
from torch import nn

rnn, head = nn.RNN(1, 16, nonlinearity="relu", batch_first=True), nn.Linear(16, 1)
with torch.no_grad():
    nn.init.eye_(rnn.weight_hh_l0).mul_(1.25)
optimizer = torch.optim.SGD([*rnn.parameters(), *head.parameters()], lr=0.02)
for step in range(60):
    x = torch.randn(16, 20, 1)
    loss = nn.functional.mse_loss(head(rnn(x)[0][:, -1]), x[:, -1])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"last loss {loss.item():.9f}")
"""
OPTIONS = ("--seeds", "2", "--treatments", "clipping(norm=1.0)", "growing.py")
OF_A_TRIAL = ("treatment", "seed", "outcome", "metric", "steps", "reach", "findings")


def table_of(study: Path) -> dict[str, Any]:
    """Return everything of a study but what it took in seconds."""
    plain = json.loads((study / "cure.json").read_text())
    trials = [{name: trial[name] for name in OF_A_TRIAL} for trial in plain["trials"]]
    winner = {**plain["winner"], "cost": None, "patch": None}  # its line numbers differ
    return {"verdict": plain["verdict"], "trials": trials, "winner": winner}


def started(folder: Path, *command: str, **environment: str) -> subprocess.Popen[str]:
    """Start a command in a process group of its own, as a shell does."""
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment}, start_new_session=True,
    )  # fmt: skip


def interrupted(driver: subprocess.Popen[str]) -> str:
    """Press Ctrl-C; return what it said, with the exit code checked."""
    os.killpg(driver.pid, signal.SIGINT)
    _, told = driver.communicate(timeout=60)
    assert driver.returncode == 130, told
    return told


def again(folder: Path, told: str) -> int:
    """Run the command that was printed; return its exit code."""
    assert "Interrupted; what has finished is kept. To go on:" in told
    program, *rest = shlex.split(told.strip().splitlines()[-1])
    assert program == "gradreach"
    driver = started(folder, sys.executable, "-m", "gradreach", *rest)
    driver.communicate(timeout=120)
    return driver.returncode
