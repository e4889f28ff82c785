"""What `torchrun` starts in test_data_parallel.py: one training on two halves of each batch."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

import gradreach as gr


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(2, 8, batch_first=True)
        self.readout = nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.readout(self.rnn(x)[0][:, -1])


def train(folder: Path | None) -> dict[str, object]:
    torch.manual_seed(0)
    rank = distributed.get_rank()
    model = DistributedDataParallel(Reader())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    watched = gr.Watch(model, optimizer, run=folder, cost="full") if folder else None
    if watched is not None:
        watched.start()
    own = []
    for step in range(12):
        draw = torch.Generator().manual_seed(10 * step + rank)
        x = torch.randn(4, 15, 2, generator=draw)
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), x[:, :1, 0] + rank).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        # What the history should hold, by a copy that no other process knows of.
        if step == 0 and watched is not None:
            torch.manual_seed(0)
            alone = Reader()
            nn.functional.mse_loss(alone(x), x[:, :1, 0] + rank).backward()
            own = [torch.cat([p.grad.flatten() for p in alone.parameters()]).norm().item()]
    told: dict[str, object] = {"rank": rank, "own": own}
    if watched is not None:
        watched.stop()
        history = watched.history
        told |= {
            "trouble": watched.trouble,
            "findings": [finding.code for finding in watched.findings],
            **{name: history[name].tolist() for name in
               ("gradient_norm", "local_gradient_norm", "clipped_norm")},
        }  # fmt: skip
    bits = b"".join(p.detach().numpy().tobytes() for p in model.parameters())
    told["weights"] = hashlib.sha256(bits).hexdigest()
    return told


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    distributed.init_process_group("gloo")
    told = {"watched": train(folder / "run"), "plain": train(None)}
    (folder / f"rank{distributed.get_rank()}.json").write_text(json.dumps(told))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
