"""Sequences of several lengths, packed, from a DataLoader with worker processes."""

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset


class Lines(Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        x = torch.from_numpy(rng.standard_normal((3 + index % 11, 4)).astype("float32"))
        # A worker runs a network of its own: it must not be taken for the model.
        return x + nn.RNN(4, 4)(x)[0].sum().backward() if index < 0 else x, float(index % 2)


def collate(rows):
    xs, ys = zip(*rows, strict=True)
    return pad_sequence(xs, batch_first=True), torch.tensor([len(x) for x in xs]), torch.tensor(ys)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 10, batch_first=True, bidirectional=True)
        self.head = nn.Linear(20, 1)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        out, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return self.head(out[torch.arange(len(x)), lengths - 1])[:, 0]


if __name__ == "__main__":
    torch.manual_seed(0)
    loader = DataLoader(Lines(), batch_size=8, shuffle=True, num_workers=2, collate_fn=collate)
    net = Net()
    optimizer = torch.optim.RMSprop(net.parameters(), lr=1e-2)
    for epoch in range(2):
        for x, lengths, y in loader:
            loss = nn.functional.binary_cross_entropy_with_logits(net(x, lengths), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            print(epoch, x.shape, loss.item())
    torch.save(net, "net.pt")
    print(torch.randn(2))
