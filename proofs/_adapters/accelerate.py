"""accelerate: the loop with `accelerator.prepare`, `backward` and `clip_grad_norm_`.

Once plain, once with gradient accumulation, where accelerate skips the steps in between, and once
by two processes, each of which has half of every batch.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, debug_launcher
from proofs._adapters import plain
from proofs._adapters.compare import compared, farthest, tell
from torch.utils.data import DataLoader, TensorDataset

import gradreach as gr
from gradreach.integrations.accelerate import watch

ACCUMULATED = 3  # passes to a step, in the second run
# The mean of two halves is the mean of the whole but for rounding, 1e-7 a step in float32, which
# 24 steps of Adam carry on into the weights: its division by √v makes much of small differences.
SPLIT_TOLERANCE = 1e-5


def train(watched: bool, accumulated: int = 1) -> plain.Trained:
    """Train as accelerate's users do."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulated)
    model = plain.new_model()
    loader = DataLoader(TensorDataset(*plain.data()), batch_size=plain.BATCH)
    net, optimizer, loader = accelerator.prepare(model, plain.new_optimizer(model), loader)
    running = watch(accelerator, net, optimizer, **plain.OPTIONS) if watched else None
    if running is not None:
        running.start()
    norms = []
    for x, y in loader:
        with accelerator.accumulate(net):
            accelerator.backward(plain.loss_of(net, x, y))
            if accelerator.sync_gradients:
                norms.append(float(accelerator.clip_grad_norm_(net.parameters(), plain.CLIP)))
            optimizer.step()
            optimizer.zero_grad()
    if running is not None:
        running.stop()
    return plain.Trained(
        plain.weights_of(model), norms, history=None if running is None else running.history
    )


def accumulate(watched: bool) -> plain.Trained:
    """Train in a plain loop that accumulates the gradients of several batches."""
    model = plain.new_model()
    optimizer = plain.new_optimizer(model)
    watch = gr.watch(model, optimizer, **plain.OPTIONS) if watched else None
    if watch is not None:
        watch.start()
    norms = []
    for number, (x, y) in enumerate(plain.batches(), start=1):
        (plain.loss_of(model, x, y) / ACCUMULATED).backward()
        if number % ACCUMULATED == 0:
            total = torch.nn.utils.clip_grad_norm_(model.parameters(), plain.CLIP)
            norms.append(float(total))
            optimizer.step()
            optimizer.zero_grad()
    if watch is not None:
        watch.stop()
    history = None if watch is None else watch.history
    return plain.Trained(plain.weights_of(model), norms, history=history)


def on_a_rank(folder: str) -> None:
    """Train on this process's half of each batch; leave what its watch saw."""
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    model = plain.new_model()
    net, optimizer = accelerator.prepare(model, plain.new_optimizer(model))
    own = slice(accelerator.process_index, None, accelerator.num_processes)
    with watch(accelerator, net, optimizer, run=f"{folder}/run", **plain.OPTIONS) as running:
        for x, y in plain.batches():
            optimizer.zero_grad()
            accelerator.backward(plain.loss_of(net, x[own], y[own]))
            accelerator.clip_grad_norm_(net.parameters(), plain.CLIP)
            optimizer.step()
    seen = {
        "type": type(net).__name__,
        "norms": running.history["gradient_norm"].tolist(),
        "layers": sorted({name for each in running.history.samples for name in each.layers}),
        "trouble": running.trouble,
    }
    Path(folder, f"rank-{accelerator.process_index}.json").write_text(json.dumps(seen))


def distributed(loop: plain.Trained) -> dict[str, Any]:
    """Train by two processes, and compare what each saw with the loop on whole batches."""
    with tempfile.TemporaryDirectory() as folder:
        debug_launcher(on_a_rank, args=(folder,), num_processes=2)
        one, other = (
            json.loads(Path(folder, f"rank-{rank}.json").read_text()) for rank in range(2)
        )
    far = farthest(np.asarray(one["norms"]), np.asarray(loop.norms))
    return {
        "checks": {
            "both ranks see the averaged gradient": one["norms"] == other["norms"],
            "it is that of the whole batch": far <= SPLIT_TOLERANCE,
            "layers bear the names inside the wrapper": one["layers"] == ["lstm.l0"],
            "the wrapper was there": one["type"] == "DistributedDataParallel",
            "nothing of the watch failed": not one["trouble"] and not other["trouble"],
        },
        "farthest_from_the_loop": far,
        "tolerance": SPLIT_TOLERANCE,
    }


def main() -> int:
    """Compare, and tell the figures."""
    loop, watched_loop = plain.train(False, sampled=(0, 5, 20)), plain.train(True)
    halves = distributed(loop)  # first: an Accelerator of this process would be inherited
    figures = compared(loop, watched_loop, train(False), train(True))
    summed = compared(
        accumulate(False), accumulate(True), train(False, ACCUMULATED), train(True, ACCUMULATED)
    )
    # `gr.measure` sees one batch, and a step here is made of several.
    summed["checks"].pop("reaches are those of gr.measure")
    for what, held in summed.pop("checks").items():
        figures["checks"][f"accumulated: {what}"] = held
    figures["accumulated"] = {"passes_per_step": ACCUMULATED, **summed}
    for what, held in halves.pop("checks").items():
        figures["checks"][f"two processes: {what}"] = held
    figures["two_processes"] = halves
    return tell(figures, ("accelerate",))


if __name__ == "__main__":
    sys.exit(main())
