"""A causal transformer and a temporal convolution, trained for some steps each."""

import torch
from torch import nn

torch.manual_seed(0)


class Model(nn.Module):
    def __init__(self, body, channels_first):
        super().__init__()
        self.embed, self.body, self.out = nn.Embedding(9, 6), body, nn.Linear(6, 9)
        self.channels_first = channels_first

    def forward(self, tokens):
        x = self.embed(tokens)
        if self.channels_first:
            return self.out(self.body(x.mT).mT)
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        return self.out(self.body(x, mask=mask, is_causal=True))


layer = nn.TransformerEncoderLayer(6, 2, 16, batch_first=True)
attention = Model(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), False)
pads = nn.ConstantPad1d((4, 0), 0.0), nn.ConstantPad1d((8, 0), 0.0)
convolution = Model(
    nn.Sequential(pads[0], nn.Conv1d(6, 6, 5), nn.ReLU(), pads[1], nn.Conv1d(6, 6, 5, dilation=2)),
    True,
)
for model in (attention, convolution):
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(4):
        tokens = torch.randint(9, (4, 30))
        loss = nn.functional.cross_entropy(
            model(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(*(parameter.double().sum().item() for parameter in model.parameters()))
print(torch.randn(2))
