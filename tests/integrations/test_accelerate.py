"""A watch of accelerate's loops, on the two things that it asks an Accelerator."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from tests.integrations.drives import STEPS, Training
from torch import nn

from gradreach.integrations.accelerate import watch


def accelerator(main=True):
    return SimpleNamespace(is_main_process=main, unwrap_model=lambda model: model.inner)


class Wrapped(nn.Module):
    """As DistributedDataParallel holds a model."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner


def test_layers_bear_the_names_of_the_model_inside():
    training = Training()

    with watch(accelerator(), Wrapped(training.model), cost="full") as watched:
        for _ in range(STEPS):
            training.step()

    assert {name for sample in watched.history.samples for name in sample.layers} == {"lstm.l0"}
    assert len(watched.history) == STEPS


def test_optimizer_is_found_inside_its_wrapper():
    training = Training()
    wrapped = SimpleNamespace(optimizer=training.optimizer)

    with watch(accelerator(), Wrapped(training.model), wrapped) as watched:
        training.step()

    assert len(watched.history) == 1


def test_other_processes_write_nothing(tmp_path):
    folder = tmp_path / "a"
    training = Training()

    with watch(accelerator(main=False), Wrapped(training.model), run=folder) as watched:
        training.step()

    assert len(watched.history) == 1
    assert not folder.exists()


def test_wrong_arguments_are_told():
    with pytest.raises(TypeError, match="evry"):
        watch(accelerator(), Wrapped(Training().model), evry=3)
