"""accelerate: the loop with `accelerator.prepare`, `backward` and `clip_grad_norm_`.

Once plain and once with gradient accumulation, where accelerate skips the steps in between.
"""

from __future__ import annotations

import sys

import torch
from accelerate import Accelerator
from proofs._adapters import plain
from proofs._adapters.compare import compared, tell
from torch.utils.data import DataLoader, TensorDataset

import gradreach as gr
from gradreach.integrations.accelerate import watch

ACCUMULATED = 3  # passes to a step, in the second run


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


def main() -> int:
    """Compare, and tell the figures."""
    loop, watched_loop = plain.train(False, sampled=(0, 5, 20)), plain.train(True)
    figures = compared(loop, watched_loop, train(False), train(True))
    summed = compared(
        accumulate(False), accumulate(True), train(False, ACCUMULATED), train(True, ACCUMULATED)
    )
    # `gr.measure` sees one batch, and a step here is made of several.
    summed["checks"].pop("reaches are those of gr.measure")
    for what, held in summed.pop("checks").items():
        figures["checks"][f"accumulated: {what}"] = held
    figures["accumulated"] = {"passes_per_step": ACCUMULATED, **summed}
    return tell(figures, ("accelerate",))


if __name__ == "__main__":
    sys.exit(main())
