"""Whatever a pass does to a model is undone, also when it raises."""

from __future__ import annotations

import random
from collections import OrderedDict, deque

import numpy as np
import pytest
import torch
from torch import nn

import gradreach as gr
from gradreach.flow.untouched import untouched


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(2, 3)
        self.norm = nn.BatchNorm1d(3)
        self.hidden = None
        self.cache = {"kept": torch.ones(1)}
        self.states = [None, None]
        self.seen = {1, 2}
        self.recent = deque([1, 2], maxlen=2)
        self.ordered = OrderedDict(a=1, b=2)


CHANGES = {
    "new attribute": lambda m: setattr(m, "extra", 1),
    "attribute": lambda m: setattr(m, "hidden", torch.ones(2)),
    "deleted attribute": lambda m: delattr(m, "hidden"),
    "dict entry": lambda m: m.cache.update(new=1),
    "dict value": lambda m: m.cache.update(kept=torch.zeros(1)),
    "dict cleared": lambda m: m.cache.clear(),
    "list entry": lambda m: m.states.__setitem__(0, torch.ones(2)),
    "list grown": lambda m: m.states.append(1),
    "set": lambda m: m.seen.add(3),
    "deque": lambda m: m.recent.append(3),
    "order": lambda m: m.ordered.move_to_end("a"),
    "container replaced": lambda m: setattr(m, "cache", {}),
    "buffer": lambda m: m.norm(torch.randn(8, 3)),
    "buffer object": lambda m: setattr(m.norm, "running_mean", torch.zeros(3)),
    "new buffer": lambda m: m.register_buffer("late", torch.zeros(1)),
    "weight": lambda m: m.rnn.weight_hh_l0.data.mul_(2),
    "weight object": lambda m: setattr(m.rnn, "weight_hh_l0", nn.Parameter(torch.zeros(9, 3))),
    "frozen": lambda m: m.requires_grad_(False),
    "gradient": lambda m: m.zero_grad(set_to_none=True),
    "gradient in place": lambda m: m.rnn.weight_hh_l0.grad.zero_(),
    "mode": lambda m: m.eval(),
    "hook": lambda m: m.rnn.register_forward_hook(lambda *given: None),
    "module": lambda m: m.add_module("late", nn.Linear(1, 1)),
    "module removed": lambda m: delattr(m, "norm"),
    "torch stream": lambda m: torch.randn(1),
    "numpy stream": lambda m: np.random.rand(),
    "python stream": lambda m: random.random(),
}


def picture(value):
    """Everything of a module, values and objects, comparable."""
    if isinstance(value, torch.Tensor):
        grad = None if value.grad is None else (id(value.grad), value.grad.numpy().tobytes())
        return id(value), value.detach().numpy().tobytes(), value.requires_grad, grad
    if isinstance(value, nn.Module):
        return id(value), [(name, picture(own)) for name, own in sorted(vars(value).items())]
    if isinstance(value, dict):
        return id(value), [(key, picture(own)) for key, own in value.items()]
    if isinstance(value, list | deque):
        return id(value), [picture(own) for own in value]
    return (id(value), sorted(value)) if isinstance(value, set) else repr(value)


def streams():
    return (torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate())


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("raises", [False, True])
def test_every_change_is_undone(change, raises):
    model = Model()
    model.rnn(torch.randn(4, 2, 2))[0].sum().backward()
    gradients = [parameter.grad for parameter in model.parameters()]  # so that their ids last
    before = picture(model), streams()

    def enter():
        with untouched(model):
            change(model)
            assert (picture(model), streams()) != before  # the change is one
            if raises:
                raise KeyError("the user's own")

    if raises:
        with pytest.raises(KeyError):
            enter()
    else:
        enter()

    assert (picture(model), streams()) == before
    assert any(gradient is not None for gradient in gradients)


def test_what_is_unchanged_is_not_written_to():
    model = Model()
    versions = [tensor._version for tensor in model.state_dict(keep_vars=True).values()]

    with untouched(model):
        pass

    assert [t._version for t in model.state_dict(keep_vars=True).values()] == versions


def test_states_kept_in_a_list_do_not_stay_on_a_graph_that_is_gone():
    class Stateful(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(2, 3)
            self.states = [torch.zeros(1, 1, 3)]

        def forward(self, x):
            output, self.states[0] = self.rnn(x, self.states[0])
            return output.sum()

    model, x = Stateful(), torch.randn(4, 1, 2)

    gr.measure(model, lambda: model(x))

    model(x).backward()  # would run through the measured graph a second time
