"""The memory that the core takes for itself."""

from __future__ import annotations

import pytest
import torch

from gradreach.kernels.native import core
from gradreach.nn import RNN


@pytest.fixture(autouse=True)
def native(lacks):
    return core.load() or lacks(f"a native core: {core.why_not_loaded()}")


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def trained(layer, x):
    """Run a step; return the bytes of its outputs and gradients."""
    output, _ = layer(x)
    results = [output, *torch.autograd.grad(output.sum(), [x, *layer.parameters()])]
    return sum(result.numel() * result.element_size() for result in results)


# T, B, I, H: small ones; one input; and one so wide over few steps that packed weights would be
# half of all that it returns.
@pytest.mark.parametrize(
    ("sizes", "share"),
    [
        ((100, 32, 32, 32), 0.09),
        ((100, 32, 128, 128), 0.09),
        ((200, 32, 1, 128), 0.09),
        ((35, 20, 650, 650), 0.09),
    ],
)
def test_workspace_of_a_step_is_little_beside_its_results(native, threads, sizes, share):
    steps, batch, inputs, hidden = sizes
    layer, x = RNN(inputs, hidden), torch.randn(steps, batch, inputs, requires_grad=True)
    trained(layer, x)
    native.workspace_trim()

    results = trained(layer, x)

    # All that it took in the step, since it keeps that for later calls.
    assert 0 < native.workspace_trim() <= share * results


def test_blocks_that_have_grown_too_small_are_given_back(native):
    def train(hidden):
        layer, x = RNN(32, hidden), torch.randn(100, 32, 32, requires_grad=True)
        trained(layer, x)

    native.workspace_trim()
    train(256)
    largest = native.workspace_trim()

    for hidden in (64, 128, 256):
        train(hidden)

    assert native.workspace_trim() == largest  # not that of all three
