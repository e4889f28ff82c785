"""Training scripts as users write them, each ending with its weights in `weights()`."""

from __future__ import annotations

HEAD = '''"""A script."""

import torch
from torch import nn

'''

PLAIN = (
    HEAD
    + """rnn, head = nn.RNN(2, 6), nn.Linear(6, 1)
params = [*rnn.parameters(), *head.parameters()]
optimizer = torch.optim.SGD(params, lr=0.07)
for step in range(6):
    x = torch.randn(9, 4, 2)
    loss = (head(rnn(x)[0][-1]) * 10).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def weights():
    return params
"""
)

OWN_CLIP = (
    HEAD
    + """lstm, head = nn.LSTM(2, 6, batch_first=True), nn.Linear(6, 1)
params = list(lstm.parameters()) + list(head.parameters())
optimizer = torch.optim.Adam(params)
for step in range(6):
    x = torch.randn(4, 9, 2)
    loss = head(lstm(x)[0][:, -1]).exp().mean()
    optimizer.zero_grad()
    norm = nn.utils.clip_grad_norm_(params, max_norm=5.0)  # too early
    loss.backward()
    nn.utils.clip_grad_value_(params, 0.3)
    optimizer.step()


def weights():
    return params
"""
)

SCALED = (
    HEAD
    + """from torch.nn.utils import clip_grad_norm_

rnn, head = nn.GRU(3, 6, batch_first=True), nn.Linear(6, 2)
params = [*rnn.parameters(), *head.parameters()]
opt = torch.optim.AdamW(params, 1e-2, fused={fused})
scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12, growth_interval=3)
for step in range(8):
    x, y = torch.randn(4, 7, 3), torch.randint(0, 2, (4,))
    if step == 4:
        x = x * float("inf")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = head(rnn(x)[0][:, -1])
    loss = nn.functional.cross_entropy(out.float(), y)
    opt.zero_grad(set_to_none=True)
    scaler.scale(loss).backward()
    {unscale}clip_grad_norm_(params, 0.5)
    scaler.step(opt)
    scaler.update()


def weights():
    return params
"""
)

CELLS = (
    HEAD
    + """cell, head = nn.LSTMCell(2, 5), nn.Linear(5, 1)
params = [*cell.parameters(), *head.parameters()]
optimizer = torch.optim.RMSprop(params, lr=3e-3)
for _ in range(4):
    x = torch.randn(8, 3, 2)
    h = c = torch.zeros(3, 5)
    loss = 0.0
    for t in range(len(x)):
        if t == 4:
            h, c = h.detach(), c.detach()
        h, c = cell(x[t], (h, c))
        loss = loss + head(h).square().mean()
    optimizer.zero_grad(); loss.backward(); optimizer.step()


def weights():
    return params
"""
)

STATEFUL = (
    HEAD
    + """class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(
            3, 5,
            num_layers=2,
        )
        self.out = nn.Linear(5, 3)

    def forward(self, x, state):
        hidden, state = self.rnn(x, state)
        return self.out(hidden), state


model, state = Model(), None
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
text = torch.randn(41, 2, 3)
for at in range(0, 40, 5):
    if state is not None:
        state = tuple(s.detach() for s in state)
    out, state = model(text[at : at + 5], state)
    loss = (out - text[at + 1 : at + 6]).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def weights():
    return list(model.parameters())
"""
)

FUNCTIONS = (
    HEAD
    + """def build(kind="RNN", **sizes):
    return getattr(nn, kind)(**sizes)


def optimizer_for(parameters, name="Adam", **options):
    return getattr(torch.optim, name)(parameters, **options)


net = build(input_size=2, hidden_size=5)
opts = {"a": optimizer_for([net.weight_hh_l0], lr=1e-2), "b": optimizer_for([net.weight_ih_l0])}
for _ in range(5):
    net.zero_grad()
    (net(torch.randn(6, 2, 2))[0] * 4).square().mean().backward()
    for name in opts: opts[name].step()


def weights():
    return list(net.parameters())
"""
)

CLOSURE = (
    HEAD
    + """rnn = nn.RNN(2, 4)
optimizer = torch.optim.LBFGS(rnn.parameters(), lr=0.5, max_iter=4)
x = torch.randn(7, 3, 2)
for _ in range(3):
\tdef closure():
\t\toptimizer.zero_grad()
\t\tloss = (rnn(x)[0] - 0.3).square().sum()
\t\tloss.backward()
\t\treturn loss

\tvalue = optimizer.step(closure)


def weights():
    return list(rnn.parameters())
"""
)

TRAINER = (
    HEAD
    + """class Trainer:
    def __init__(self, rate):
        self.net = nn.GRU(2, 5)
        self.optim = torch.optim.Adam(
            self.net.parameters(),
            lr=rate * 2,  # the usual
        )
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optim, 2, gamma=0.5)

    def train(self):
        for n in range(6):
            loss = (self.net(torch.randn(5, 2, 2))[0] * 9).square().mean() / 2
            loss.backward()
            if n % 2:
                (self
                 .optim
                 .step())
                self.optim.zero_grad()
                self.scheduler.step()


trainer = Trainer(5e-3)
trainer.train()


def weights():
    return list(trainer.net.parameters())
"""
)

ONE_LINERS = (
    HEAD
    + """rnn = nn.RNN(2, 4); opt = torch.optim.SGD(rnn.parameters(), 0.1)
def go(): opt.zero_grad(); (rnn(torch.randn(5, 2, 2))[0] * 5).square().mean().backward(); opt.step()
for _ in range(3): go()
step = lambda: opt.step()
for _ in range(2): (rnn(torch.randn(5, 2, 2))[0] * 5).square().mean().backward(); step()
[opt.step() for _ in range(2)]


def weights():
    return list(rnn.parameters())
"""
)

PASSED_ON = (
    HEAD
    + """def step_with(step):
    step()


rnn = nn.RNN(2, 4)
params = list(rnn.parameters())
optimizers = [torch.optim.SGD(params[:2], lr=0.1), torch.optim.Adam(params[2:], lr=0.01)]
for _ in range(4):
    (rnn(torch.randn(5, 2, 2))[0] * 5).square().mean().backward()
    for each in optimizers:
        step_with(each.step)
        each.zero_grad()


def weights():
    return params
"""
)

GROUPS = (
    HEAD
    + """rnn, head = nn.GRU(2, 4), nn.Linear(4, 1)
optimizer = torch.optim.Adam(
    [{"params": rnn.parameters(), "lr": 3e-3}, {"params": head.parameters()}], betas=(0.8, 0.9)
)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=[0.01, 0.02], total_steps=6)
for _ in range(6):
    loss = head(rnn(torch.randn(5, 2, 2))[0]).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()


def weights():
    return [*rnn.parameters(), *head.parameters()]
"""
)

SCRIPTS = {
    "plain": PLAIN,
    "own-clip": OWN_CLIP,
    "scaled": SCALED.format(fused=False, unscale=""),
    "scaled-fused": SCALED.format(fused=True, unscale=""),
    "scaled-unscaled": SCALED.format(fused=True, unscale="scaler.unscale_(opt)\n    "),
    "cells": CELLS,
    "stateful": STATEFUL,
    "functions": FUNCTIONS,
    "closure": CLOSURE,
    "trainer": TRAINER,
    "one-liners": ONE_LINERS,
    "passed-on": PASSED_ON,
    "groups": GROUPS,
}
