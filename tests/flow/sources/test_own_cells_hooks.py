"""Nothing of ours is left among torch's global hooks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import gradreach as gr

MODULES = torch.nn.modules.module


class Cell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Linear(3, 3)

    def forward(self, state: Tensor) -> Tensor:
        return torch.tanh(self.weight(state))


def test_own_cells_leave_no_mark_of_their_hooks() -> None:
    model = nn.ModuleDict({"cell": Cell()})
    marks = dict(MODULES._global_forward_hooks_with_kwargs)

    def closure() -> Tensor:
        state = torch.zeros(2, 3)
        for _ in range(5):
            state = model["cell"](state)
        return state.sum()

    gr.measure(model, closure, cells=["cell"])

    assert marks == MODULES._global_forward_hooks_with_kwargs
    assert not MODULES._has_any_global_hook() or marks
