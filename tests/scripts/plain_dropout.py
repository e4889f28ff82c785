"""A training loop as most are: dropout, clipping, accumulation, two optimizers, evaluation."""

import random
import sys

import numpy as np

print("at the start:", "torch" in sys.modules, "gradreach" in " ".join(sys.argv))
import torch
from torch import nn


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.rnn = nn.LSTM(8, 12, num_layers=2, dropout=0.3, batch_first=True)
        self.head = nn.Linear(12, 3)

    def forward(self, tokens):
        return self.head(self.rnn(self.embed(tokens))[0][:, -1])


torch.manual_seed(1), np.random.seed(2), random.seed(3)
model = Tagger()
optimizers = [
    torch.optim.Adam([*model.embed.parameters(), *model.rnn.parameters()], lr=1e-2),
    torch.optim.SGD(model.head.parameters(), lr=0.1, momentum=0.9),
]
schedule = torch.optim.lr_scheduler.StepLR(optimizers[0], 5)
for step in range(int(sys.argv[1]) if len(sys.argv) > 1 else 14):
    for optimizer in optimizers:
        optimizer.zero_grad()
    for _ in range(2):  # accumulated
        tokens = torch.randint(0, 20, (6, 17))
        loss = nn.functional.cross_entropy(model(tokens), tokens[:, 0] % 3) / 2
        loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), 0.05)
    for optimizer in optimizers:
        optimizer.step()
    schedule.step()
    print(f"step {step} loss {loss.item():.9g} norm {norm.item():.9g}")
    if step % 4 == 0:
        model.eval()
        with torch.no_grad():
            print("  valid", model(torch.randint(0, 20, (4, 9))).sum().item())
        with torch.inference_mode():
            model(torch.randint(0, 20, (4, 9)))
        print("  valid without no_grad", model(torch.randint(0, 20, (2, 9))).sum().item())
        model.train()
torch.save(model.state_dict(), "weights.pt")
torch.save(model, "model.pt")
torch.save([optimizer.state_dict() for optimizer in optimizers], "optimizers.pt")
print(torch.randn(3), np.random.rand(3), random.random(), torch.get_num_threads())
