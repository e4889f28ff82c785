"""Say the symbol of five steps ago, on streams whose state is carried from window to window."""

import torch
from torch import nn

WINDOW, LAG, STREAMS = 4, 5, 16


class Echo(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.lstm = nn.LSTM(2, hidden, batch_first=True)
        self.out = nn.Linear(hidden, 2)

    def forward(self, x, state):
        out, state = self.lstm(x, state)
        return self.out(out), state


def one_hot(symbols):
    return nn.functional.one_hot(symbols, 2).float()


model = Echo()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
past, state = torch.randint(0, 2, (STREAMS, LAG)), None
for update in range(1200):
    new = torch.randint(0, 2, (STREAMS, WINDOW))
    seen = torch.cat([past, new], 1)
    past = seen[:, -LAG:]
    if state is not None:
        state = tuple(part.detach() for part in state)
    answer, state = model(one_hot(new), state)
    loss = nn.functional.cross_entropy(answer.flatten(0, 1), seen[:, :WINDOW].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if (update + 1) % 100 == 0:
        print(f"update {update + 1} loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    symbols = torch.randint(0, 2, (64, 60))
    answer, _ = model(one_hot(symbols), None)
    wrong = answer[:, LAG:].argmax(-1) != symbols[:, :-LAG]
print(f"test error {wrong.float().mean().item():.4f}")
