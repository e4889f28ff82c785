"""Which modules are taken for cells, and which of their outputs for state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gradreach.flow.sources.own_calls import own_chains
from gradreach.flow.sources.own_cells import OwnCells


class Step(nn.Module):
    """Returns an output, the state, and its second input untouched."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor, h: Tensor, memory: Tensor | None = None) -> Any:
        new = torch.tanh(self.linear(h) + x)
        return new.sum(-1), new, memory


class Holder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = Step()


def recorded(model: nn.Module, run: Callable[[], Any]) -> OwnCells:
    with OwnCells(model, None) as own:
        run()
        own.choose()
    return own


def test_what_is_passed_on_is_state_and_what_is_handed_through_is_not() -> None:
    model = Holder()
    memory = torch.randn(3, 4, requires_grad=True) * 2

    def run() -> None:
        h, kept = torch.zeros(3, 4), memory
        for _ in range(4):
            _, h, kept = model.cell(torch.ones(3, 4), h, memory=kept)

    own = recorded(model, run)
    (chain,) = own_chains(own.calls["cell"])
    assert len(chain.calls) == 4
    assert chain.parts == [(1,)]
    assert own.parameters == list(model.cell.parameters())


def test_two_sequences_side_by_side_are_two_chains() -> None:
    model = Holder()

    def run() -> None:
        first, second = torch.zeros(3, 4), torch.ones(3, 4)
        for _ in range(4):
            _, first, _ = model.cell(torch.ones(3, 4), first)
            _, second, _ = model.cell(torch.ones(3, 4), second)

    chains = own_chains(recorded(model, run).calls["cell"])
    assert [len(chain.calls) for chain in chains] == [4, 4]


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRU])
def test_modules_around_layers_of_torch_are_left_to_those(kind: type[nn.Module]) -> None:
    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = kind(4, 4)
            self.block = Step()

    own = OwnCells(Around(), None)
    assert list(own.names.values()) == ["block"]


def test_a_module_that_loops_over_the_cell_is_no_cell() -> None:
    class Stretch(Holder):
        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            for step in x:
                _, h, _ = self.cell(step, h)
            return h

    model = Stretch()

    def run() -> None:
        h = torch.zeros(3, 4)
        for _ in range(2):
            h = model(torch.ones(5, 3, 4), h)

    own = recorded(model, run)
    assert list(own.calls) == ["cell"]
    assert len(own.calls["cell"]) == 10


def test_nothing_stays_hooked() -> None:
    hooks = torch.nn.modules.module
    with OwnCells(Holder(), None):
        assert hooks._global_forward_hooks
    assert not hooks._global_forward_hooks
    assert not hooks._global_forward_pre_hooks
