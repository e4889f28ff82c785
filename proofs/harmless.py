"""Proof that a watch changes nothing and leaves nothing: bits, hooks, memory, faults.

    ./dev proof harmless [bits] [memory] [faults] [--steps 200] [--memory-steps 10000]

bits: 6 models × 4 optimizers × 3 dtypes are trained with and without `gradreach.watch`; weights,
gradients, optimizer state and random stream must be the same to the last bit, and after `stop()`
there must be no hook, no attribute, no thread and no replaced function of torch's.
memory: 10,000 steps attached; resident memory may grow by less than 5 MB after the first 500, and
the graph of no step may outlive it.
faults: every internal function of the monitor raises once, in a training of its own; it must end
with the same bits, and the watch must tell.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch looks
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from tests.monitor.same_bits import Bits
from torch import Tensor, nn

import gradreach as gr

ROOT = Path(__file__).resolve().parent.parent
WARM = 500  # steps until torch's own caches and the first samples are there
MOST_GROWTH = 5.0  # MB


class Stacked(nn.Module):
    """Two layers with dropout, read off at the end."""

    def __init__(self, kind: type[nn.RNNBase], **options: Any) -> None:
        super().__init__()
        self.rnn = kind(3, 5, **options)
        self.out = nn.Linear(5 * (2 if options.get("bidirectional") else 1), 2)

    def forward(self, x: Tensor) -> Tensor:
        """Read off the last step."""
        return self.out(self.rnn(x)[0][-1])


class Cells(nn.Module):
    """A cell that is called step by step, with normalised states."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.norm, self.out = nn.LSTMCell(3, 5), nn.LayerNorm(5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Go through the steps."""
        h = c = x.new_zeros(x.shape[1], 5)
        for each in x:
            h, c = self.cell(each, (h, c))
            h = self.norm(h)
        return self.out(h)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "rnn": lambda: Stacked(nn.RNN),
    "gru, 2 layers, dropout": lambda: Stacked(nn.GRU, num_layers=2, dropout=0.2),
    "lstm, 2 layers": lambda: Stacked(nn.LSTM, num_layers=2),
    "gru, both directions": lambda: Stacked(nn.GRU, bidirectional=True),
    "lstm cells, layer norm": Cells,
    "our rnn, residual": lambda: nn.Sequential(
        _Last(gr.nn.RNN(3, 5, residual=True)), nn.Linear(5, 2)
    ),
}
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd, momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw, amsgrad": lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.003),
}
DTYPES = (torch.float32, torch.float64, torch.bfloat16)


class _Last(nn.Module):
    def __init__(self, rnn: nn.Module) -> None:
        super().__init__()
        self.rnn = rnn

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0][-1]


def trained(model: str, optimizer: str, dtype: torch.dtype, steps: int, watch: bool) -> Any:
    """Train once; return the bits, the attributes of everything, and the watch."""
    torch.manual_seed(1)
    module = MODELS[model]().to(dtype)
    made = OPTIMIZERS[optimizer](module.parameters())
    watched = gr.watch(module, made, cost="full", every=50).start() if watch else None
    for step in range(steps):
        made.zero_grad(set_to_none=step % 2 == 0)
        loss = (module(torch.randn(7, 3, 3, dtype=dtype)) - 1).square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        made.step()
    if watched is not None:
        watched.stop()
    owners = [made, *module.modules(), *module.parameters()]
    attributes = [sorted(vars(owner)) for owner in owners]
    hooks = [not p._backward_hooks and not p._post_accumulate_grad_hooks
             for p in module.parameters()]  # fmt: skip
    return Bits.of(module, made), attributes, all(hooks), watched


def prove_bits(steps: int) -> bool:
    """Compare the whole matrix."""
    bad, rows, samples, probes = [], 0, 0, 0
    threads = threading.active_count()
    every = list(itertools.product(MODELS, OPTIMIZERS, DTYPES))
    for name in every:
        plain, attributes, _, _ = trained(*name, steps, watch=False)
        bits, left, no_hooks, watched = trained(*name, steps, watch=True)
        history = watched.history
        rows, samples = rows + len(history), samples + len(history.samples)
        probes += sum(not probe.reason for probe in history.probes)
        wrong = {
            "other bits": bits != plain,
            "attributes": attributes != left,
            "hooks on parameters": not no_hooks,
            f"left {Bits.hooks()}": bool(Bits.hooks()),
            "threads": threading.active_count() != threads,
            f"trouble: {watched.trouble}": watched.trouble is not None,
            "rows missing": len(history) != steps,
        }
        bad += [f"{name}: {each}" for each, holds in wrong.items() if holds]
    print(
        f"bits: {len(every)} trainings of {steps} steps, {rows} rows, {samples} samples, "
        f"{probes} probes: {len(bad)} differences"
    )
    print("\n".join(bad), end="\n" if bad else "")
    return not bad


def resident() -> float:
    """Return the process's resident memory in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def prove_memory(steps: int) -> bool:
    """Train for long, watched."""
    torch.manual_seed(1)
    model = Stacked(nn.LSTM)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    outlived, started, before = 0, time.perf_counter(), 0.0
    with gr.watch(model, optimizer) as watched:
        for step in range(steps):
            optimizer.zero_grad()
            loss = model(torch.randn(20, 4, 3)).square().mean()
            mark = _Mark()
            loss.grad_fn.metadata["mark"] = mark
            dies = weakref.ref(mark)
            del mark
            loss.backward()
            optimizer.step()
            del loss
            outlived += dies() is not None
            if step == WARM:
                gc.collect()
                before = resident()
        gc.collect()
        growth = resident() - before
        seconds = time.perf_counter() - started
        history = watched.history
    print(
        f"memory: {steps} steps in {seconds:.0f} s, {len(history)} rows, {len(history.samples)} "
        f"samples, {len(history.probes)} probes: {growth:+.2f} MB, {outlived} graphs outlived "
        f"their step, overhead {watched.overhead:.1%}"
    )
    return growth < MOST_GROWTH and not outlived and watched.trouble is None


class _Mark:
    """Lives as long as the graph it is hung on."""


def prove_faults() -> bool:
    """Run the test of every fault point, which is too long for the default suite."""
    import pytest

    test = "tests/monitor/test_fault_points.py::test_fault_in_every_function_disturbs_nothing"
    return pytest.main(["-q", "-s", "--timeout=900", f"{ROOT / test}"]) == 0


def main() -> int:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("parts", nargs="*", default=["bits", "memory", "faults"])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--memory-steps", type=int, default=10_000)
    given = parser.parse_args()
    torch.set_num_threads(1)
    proofs = {
        "bits": lambda: prove_bits(given.steps),
        "memory": lambda: prove_memory(given.memory_steps),
        "faults": prove_faults,
    }
    held = [proofs[part]() for part in given.parts]  # all of them, also after one that fails
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
