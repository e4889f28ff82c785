"""A truncated language model that carries its state from chunk to chunk, detached."""

import torch
from torch import nn

torch.manual_seed(0)


class Language(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.embed = nn.Embedding(30, 16)
        self.rnn = getattr(nn, kind)(16, 16, num_layers=2, dropout=0.2)
        self.out = nn.Linear(16, 30)
        self.out.weight = self.embed.weight

    def forward(self, tokens, state):
        hidden, state = self.rnn(self.embed(tokens), state)
        return self.out(hidden), state


def repackage(state):
    return state.detach() if isinstance(state, torch.Tensor) else tuple(map(repackage, state))


text = torch.randint(0, 30, (10 * 20 + 1, 4))
for kind in ("LSTM", "GRU"):  # two models, one after the other
    model, state = Language(kind), None
    for epoch in range(2):
        state = None
        for at in range(0, 200, 20):
            state = None if state is None else repackage(state)
            logits, state = model(text[at : at + 20], state)
            loss = nn.functional.cross_entropy(
                logits.flatten(0, 1), text[at + 1 : at + 21].flatten()
            )
            model.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
            for p in model.parameters():
                p.data.add_(p.grad, alpha=-1.0)
        print(kind, epoch, loss.item())
    torch.save(model.state_dict(), f"{kind}.pt")
print(torch.randn(2))
