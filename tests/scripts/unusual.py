"""Less usual ways to train: one short loop each, all in one process."""

import copy
import sys
import warnings

import torch
from torch import nn
from torch.nn.utils.parametrizations import orthogonal, spectral_norm
from torch.utils.checkpoint import checkpoint

warnings.simplefilter("error")  # none of them may come from us
torch.manual_seed(0)


def fit(name, parameters, loss_of, steps=3):
    optimizer = torch.optim.SGD(list(parameters), lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        optimizer.step()
    print(name, loss.item())


x = torch.randn(11, 3, 4)

first, second = nn.LSTM(4, 6), nn.GRU(6, 5)
layers = [*first.parameters(), *second.parameters()]
run = {
    "plain": lambda: second(first(x)[0])[0],
    "checkpoint": lambda: checkpoint(lambda v: second(first(v)[0])[0], x, use_reentrant=False),
    "reentrant": lambda: checkpoint(
        lambda v: second(v)[0],
        checkpoint(lambda v: first(v)[0], x.clone().requires_grad_(), use_reentrant=True),
        use_reentrant=True,
    ),
}
for name, forward in run.items():
    fit(name, layers, lambda forward=forward: forward()[-1].square().mean())

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch calls it deprecated
    dropped = nn.utils.weight_norm(nn.LSTM(4, 6), "weight_hh_l0")
    fit("weight norm", dropped.parameters(), lambda: dropped(x)[0].mean())
turned = orthogonal(nn.RNN(4, 6), "weight_hh_l0")
fit("orthogonal", turned.parameters(), lambda: turned(x)[0].mean())
normed = spectral_norm(nn.GRU(4, 6), "weight_hh_l0")
fit("spectral norm", normed.parameters(), lambda: normed(x)[0].mean())
print("buffers", sum(buffer.sum().item() for buffer in normed.buffers()))


class Loop(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(4, 6)
        self.norm = nn.LayerNorm(6)

    def forward(self, series):
        h = torch.zeros(3, 6)
        for each in series:
            h = self.norm(self.cell(each, h))
        return h


loop = Loop()
fit("a loop", loop.parameters(), lambda: loop(x).square().mean())
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # deprecated, too
    traced = torch.jit.trace(nn.Sequential(nn.Linear(4, 4), nn.LSTM(4, 3)), x)
print("traced", str(traced.inlined_graph))

frozen = nn.LSTM(4, 6).requires_grad_(False)
inputs = torch.zeros(11, 3, 4, requires_grad=True)
fit("frozen", [inputs], lambda: frozen(inputs)[0].mean())

twice = nn.RNN(4, 6)
optimizer = torch.optim.Adam(twice.parameters())
for step in range(4):
    out = twice(x)[0]
    out[-1].sum().backward(retain_graph=True)
    out[3].sum().backward()
    grads = torch.autograd.grad(twice(x)[0].mean(), list(twice.parameters()))
    for p, g in zip(twice.parameters(), grads, strict=True):
        p.grad += g
    optimizer.step(), optimizer.zero_grad()
    try:
        bad = twice(x)[0]
        bad.register_hook(lambda g: 1 / 0)
        bad.sum().backward()
    except ZeroDivisionError:
        print("a hook of the script failed", step)
    optimizer.zero_grad()
again = copy.deepcopy(twice)
torch.save([first, second, loop, twice, again, optimizer], "models.pt")

double = nn.LSTM(4, 6, dtype=torch.float64)
torch.set_default_dtype(torch.float64)
fit("float64", double.parameters(), lambda: double(x.double())[0].mean())
print(torch.randn(3), len(torch.nn.modules.module._global_forward_hooks) < 4)
sys.exit(0)
