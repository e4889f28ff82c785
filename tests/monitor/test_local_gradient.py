"""The gradient of one process's own data, seen where it arrives."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from gradreach.monitor.local_gradient import LocalGradient


def test_norm_is_that_of_all_parameters_together_and_no_hook_stays() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
    frozen = model[0].bias.requires_grad_(False)
    own = LocalGradient(wanted=lambda: True)

    own.begin([*model.parameters()])
    model(torch.randn(5, 3)).sum().backward()
    found = own.end()

    parts = [p.grad.double().norm() for p in model.parameters() if p is not frozen]
    assert found == pytest.approx(math.hypot(*map(float, parts)), rel=1e-12)
    assert all(not p._backward_hooks for p in model.parameters())


def test_pass_that_raises_leaves_no_hook_once_the_next_begins() -> None:
    weight = torch.ones(1, requires_grad=True)
    own = LocalGradient(wanted=lambda: True)
    own.begin([weight])

    own.begin([weight])
    (2 * weight).sum().backward()

    assert own.end() == 2.0 and not weight._backward_hooks
    assert own.end() is None


def test_process_that_is_alone_is_not_looked_at() -> None:
    weight = torch.ones(1, requires_grad=True)
    own = LocalGradient()

    own.begin([weight])
    weight.sum().backward()

    assert own.end() is None and not weight._backward_hooks
