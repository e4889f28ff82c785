"""Cells of users' own are seen in watched trainings and scripts, too."""

from __future__ import annotations

import numpy as np
import torch
from tests.script.twins import diagnose, ended
from torch import Tensor, nn

import gradreach as gr
from gradreach.monitor import own_cell_watch


class Cell(nn.Module):
    """A gated cell with dropout, so that a second run has to draw the same numbers."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.entering, self.kept = nn.Linear(inputs, hidden), nn.Linear(hidden, hidden)
        self.drop = nn.Dropout(0.1)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        return torch.tanh(self.drop(self.entering(x)) + self.kept(state))


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.readout = Cell(3, 12), nn.Linear(12, 1)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), 12)
        for step in range(x.shape[1]):
            state = self.cell(x[:, step], state)
        return self.readout(state)


def trained(steps: int = 4, **watching) -> tuple[list[Tensor], gr.GradientFlow | None]:
    torch.manual_seed(0)
    model = Reader()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    watch = gr.watch(model, optimizer, **watching) if watching else None
    if watch is not None:
        watch.start()
    for _ in range(steps):
        x = torch.randn(4, 15, 3)
        optimizer.zero_grad()
        (model(x) - x[:, 0, :1]).square().mean().backward()
        optimizer.step()
    if watch is not None:
        watch.stop()
        assert watch.trouble is None
        assert len(watch.history) == steps
    weights = [*model.parameters(), torch.get_rng_state()]
    return weights, None if watch is None else watch


def test_watched_cell_trains_to_the_same_bits():
    plain, _ = trained()
    watched, _ = trained(every=1)

    assert all(map(torch.equal, plain, watched))


def test_sample_of_a_cell_is_what_measure_says():
    _, watch = trained(steps=1, every=1)
    torch.manual_seed(0)
    model = Reader()
    _ = torch.optim.Adam(model.parameters(), lr=0.01)
    x = torch.randn(4, 15, 3)

    expected = gr.measure(model, lambda: (model(x) - x[:, 0, :1]).square().mean(), lag_probes=4)

    ((_, flow),) = watch.flows[:1]
    layer, right = flow.layers["cell"], expected.layers["cell"]
    assert layer.source == "cells"
    np.testing.assert_array_equal(layer.lag_profile, right.lag_profile)
    np.testing.assert_array_equal(layer.state_gradient_norms, right.state_gradient_norms)
    assert layer.contributions.keys() == right.contributions.keys()


def test_nothing_is_left_of_a_watched_cell():
    model = Reader()
    before = len(torch.nn.modules.module._global_forward_hooks)
    with gr.watch(model, every=1):
        model(torch.randn(2, 5, 3)).sum().backward()

    assert len(torch.nn.modules.module._global_forward_hooks) == before
    assert not any(parameter._backward_hooks for parameter in model.parameters())


def test_forward_passes_without_a_backward_are_forgotten(monkeypatch):
    monkeypatch.setattr(own_cell_watch, "MOST", 40)
    model = Reader()
    with gr.watch(model, every=1) as watch:
        for _ in range(10):
            model(torch.randn(2, 15, 3))
        kept = watch._session.watch._own._seen
        assert sum(map(len, kept.values())) <= 40


def test_script_with_a_cell_of_its_own_is_diagnosed(tmp_path):
    source = (
        "import torch\nfrom torch import nn\n"
        "class Cell(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__(); self.a = nn.Linear(2, 8); self.b = nn.Linear(8, 8)\n"
        "    def forward(self, x, h): return torch.tanh(self.a(x) + self.b(h))\n"
        "cell, out = Cell(), nn.Linear(8, 1)\n"
        "optimizer = torch.optim.SGD([*cell.parameters(), *out.parameters()], lr=0.01)\n"
        "for _ in range(5):\n"
        "    h = torch.zeros(4, 8)\n"
        "    for x in torch.randn(30, 4, 2): h = cell(x, h)\n"
        "    optimizer.zero_grad(); out(h).square().mean().backward(); optimizer.step()\n"
        "print(*(p.sum().item() for p in cell.parameters()))\n"
    )
    (tmp_path / "train.py").write_text(source)

    done = ended(diagnose("train.py"), tmp_path)

    assert "vanishing-gradient in cell" in done.err
    assert "cell   Cell 8" in done.err


def test_model_that_is_asked_for_its_shapes_only_is_watched_afterwards():
    model, x = Reader(), torch.randn(4, 15, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    shapes = {name: weight.to("meta") for name, weight in model.named_parameters()}

    with gr.watch(model, optimizer, cost="full") as watched:
        torch.func.functional_call(model, shapes, (x.to("meta"),))  # as Keras does of its layers
        for _ in range(2):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()

    assert watched.trouble is None
    assert [list(sample.layers) for sample in watched.history.samples] == [["cell"], ["cell"]]
