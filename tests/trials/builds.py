"""Functions that trials train: importable by a fresh process, each with one way to end."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch


def train(seed: int, *, steps: int = 20, lr: float = 0.05) -> float:
    """Train a small RNN on noise; returns the last loss."""
    model = torch.nn.RNN(2, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    loss = torch.tensor(0.0)
    for _ in range(steps):
        x = torch.randn(6, 4, 2)
        loss = (model(x)[0][-1].mean(-1) - x[0, :, 0]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def state_of_process(seed: int) -> dict[str, float]:
    """Return numbers that any leftover of another trial would change."""
    leftovers = sum(name.startswith("leftover") for name in sys.modules)
    sys.modules[f"leftover{seed}"] = sys
    return {
        "drawn": torch.rand(1).item(),
        "order": float(hash("a text") % 1000),
        "threads": float(torch.get_num_threads()),
        "leftovers": float(leftovers),
        "collects": float(gc.isenabled()),
    }


def raises(seed: int) -> float:
    raise ValueError(f"the data of seed {seed} are not there")


def diverges(seed: int) -> float:
    return float("nan")


def takes_memory(seed: int, size: int = 2**29) -> float:
    return torch.zeros(size, dtype=torch.uint8).max().item()


def hangs(seed: int, note: str) -> float:
    """Wait for ever, and so does a child, whose process id goes into a file."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(note).write_text(str(child.pid))
    time.sleep(600)
    return 0.0


def segfaults(seed: int) -> float:
    os.kill(os.getpid(), signal.SIGSEGV)
    return 0.0


def leaves(seed: int) -> float:
    os._exit(3)


def killed_at_first(seed: int, note: str) -> float:
    """Be ended from outside on the first attempt."""
    if not Path(note).exists():
        Path(note).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 0.5


def killed_always(seed: int) -> float:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0.0


def sleeps(seed: int, seconds: float = 1.0) -> float:
    time.sleep(seconds)
    return 1.0 + seed


def ends_slowly(seed: int, *, until: str) -> float:
    """Be done, but stay at the end until a file is there, a minute at most."""

    def wait() -> None:
        latest = time.monotonic() + 60
        while not Path(until).exists() and time.monotonic() < latest:
            time.sleep(0.02)

    atexit.register(wait)
    return 1.0
