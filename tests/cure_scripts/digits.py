"""Read handwritten digits pixel by pixel: scikit-learn's 8 × 8 images as sequences of 64.

python digits.py digits.csv.gz
"""

import sys

import numpy as np
import torch
from torch import nn

table = np.loadtxt(sys.argv[1], delimiter=",", dtype=np.float32)
images, labels = torch.from_numpy(table[:, :-1] / 16.0), torch.from_numpy(table[:, -1]).long()
order = torch.randperm(len(images), generator=torch.Generator().manual_seed(5))
train, test = order[:1500], order[1500:]


class Reader(nn.Module):
    def __init__(self, hidden=48):
        super().__init__()
        self.rnn = nn.RNN(1, hidden, batch_first=True)
        self.out = nn.Linear(hidden, 10)

    def forward(self, pixels):
        states, _ = self.rnn(pixels.unsqueeze(-1))
        return self.out(states[:, -1])


model = Reader()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for epoch in range(24):
    for rows in train[torch.randperm(len(train))].split(50):
        loss = nn.functional.cross_entropy(model(images[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        logits = model(images[test])
        test_loss = nn.functional.cross_entropy(logits, labels[test])
        accuracy = (logits.argmax(-1) == labels[test]).float().mean()
    model.train()
    print(f"epoch {epoch + 1} test loss {test_loss.item():.4f} accuracy {accuracy.item():.4f}")
