"""A watch that ends while torch is in the middle of a module's hooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from gradreach.monitor.guard import Guard
from gradreach.monitor.input_watch import InputWatch
from gradreach.monitor.names import LiveNames
from gradreach.monitor.own_cell_watch import OwnCellWatch

Make = Callable[[LiveNames, Guard, Callable[[], None]], Any]


@pytest.mark.parametrize("make", [InputWatch, OwnCellWatch])
def test_hook_called_after_the_end_leaves_the_call_alone(make: Make) -> None:
    model, x = nn.Sequential(nn.Conv1d(2, 2, 3), nn.Tanh()), torch.randn(1, 2, 9)
    expected = model(x)
    guard = Guard(on_fault=lambda: None)
    watch = make(LiveNames(guard), guard, lambda: None)

    def end(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        watch.close()  # torch has listed the hooks of this call; ours is still to come

    ending = nn.modules.module.register_module_forward_hook(end)
    try:
        watch.start()
        assert torch.equal(model(x), expected)
    finally:
        watch.close()
        ending.remove()

    assert guard.fault is None
