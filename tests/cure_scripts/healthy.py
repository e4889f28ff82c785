"""Say the last number: a GRU that learns it."""

import torch
from torch import nn

rnn, head = nn.GRU(1, 16, batch_first=True), nn.Linear(16, 1)
optimizer = torch.optim.Adam([*rnn.parameters(), *head.parameters()], lr=0.01)
for step in range(150):
    x = torch.randn(32, 8, 1)
    loss = nn.functional.mse_loss(head(rnn(x)[0][:, -1]), x[:, -1])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"loss {loss.item():.5f}")
