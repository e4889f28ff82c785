"""Two processes train one model: start with torchrun."""

import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(0)
model = DistributedDataParallel(nn.GRU(4, 6, batch_first=True))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
torch.manual_seed(rank)
steps = int(os.environ.get("STEPS", "6"))
for step in range(steps):
    optimizer.zero_grad()
    loss = model(torch.randn(3, 12, 4))[0][:, -1].square().mean()
    loss.backward()
    optimizer.step()
torch.save(model.state_dict(), f"rank{rank}.pt")
with open(f"rank{rank}.txt", "w") as file:
    print(step, loss.item(), torch.randn(2), __name__, file=file)
dist.destroy_process_group()
