"""Recurrent modules are found wherever they stand, under the names their users know."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import gradreach as gr
from gradreach.flow.find import class_name, find_recurrent


def names(model):
    return list(find_recurrent(model).watched.values())


class Wrapper(nn.Module):
    """What DataParallel, DistributedDataParallel, AveragedModel and their like look like."""

    def __init__(self, module, name="module"):
        super().__init__()
        self.add_module(name, module)


def nested():
    return nn.ModuleDict({"encoder": nn.Sequential(nn.Linear(1, 1), nn.GRU(1, 2)),
                          "cell": nn.LSTMCell(1, 2), "head": nn.Linear(2, 1)})  # fmt: skip


def test_modules_are_named_by_their_path():
    assert names(nested()) == ["encoder.1", "cell"]


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM, nn.RNNCell, nn.GRUCell, nn.LSTMCell])
def test_model_that_is_recurrent_itself_is_named_by_its_class(kind):
    assert names(kind(1, 2)) == [kind.__name__.lower()]


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        torch.optim.swa_utils.AveragedModel,
        lambda model: Wrapper(model, "_orig_mod"),
        lambda model: Wrapper(Wrapper(model, "_orig_mod"), "module"),
        lambda model: Wrapper(Wrapper(model, "module"), "_orig_mod"),
    ],
    ids=["DataParallel", "AveragedModel", "compile", "DDP of compile", "compile of DDP"],
)
def test_wrappers_do_not_show_in_names(wrap):
    assert names(wrap(nested())) == ["encoder.1", "cell"]
    assert names(wrap(nn.GRU(1, 2))) == ["gru"]


def test_part_that_is_called_module_keeps_its_layers_apart_from_its_siblings():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(3, 4)
            self.module = nn.ModuleDict({"rnn": nn.GRU(4, 5)})

        def forward(self, x):
            return self.module["rnn"](self.rnn(x)[0])[0]

    model, x = Model(), torch.randn(6, 2, 3)

    assert names(model) == ["rnn", "module.rnn"]
    layers = gr.measure(model, lambda: model(x).sum()).layers
    assert {name: layer.hidden_size for name, layer in layers.items()} == {
        "rnn.l0": 4, "module.rnn.l0": 5
    }  # fmt: skip


def test_scripted_modules_are_named_as_blind():
    model = nn.ModuleDict({"fast": torch.jit.script(nn.LSTM(1, 2)), "slow": nn.GRU(1, 2)})

    found = find_recurrent(model)

    assert list(found.watched.values()) == ["slow"]
    assert [str(spot) for spot in found.blind] == ["fast (LSTM): scripted modules run no hooks"]
    assert find_recurrent(torch.jit.script(nn.GRU(1, 2))).blind[0].module == "gru"


test_scripted_modules_are_named_as_blind = pytest.mark.filterwarnings(
    "ignore:.*torch.jit.script.*:DeprecationWarning"
)(test_scripted_modules_are_named_as_blind)


def test_shared_module_is_found_once_and_subclass_is_called_by_its_base():
    class Mine(nn.LSTM):
        pass

    shared = Mine(1, 2)

    assert names(nn.Sequential(shared, shared)) == ["0"]
    assert class_name(shared) == "LSTM"
    assert class_name(nn.Linear(1, 1)) == "Linear"


def test_modules_that_cannot_be_replayed_are_blind_with_the_reason():
    cell = nn.utils.parametrizations.weight_norm(nn.GRUCell(1, 2), "weight_hh")
    odd = nn.GRU(1, 2)
    odd.to(torch.float8_e5m2)
    model = nn.ModuleList([odd, cell])

    found = find_recurrent(model)

    assert not found.watched
    for spot, part in zip(found.blind, ("float8", "parametriz"), strict=True):
        assert part in spot.reason
