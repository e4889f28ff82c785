"""What users do with modules: copy, save, parametrise, call functionally, cast, autocast."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch.nn.utils import parametrizations, parametrize

import gradreach as gr

NAMES = ["RNN", "GRU", "LSTM"]
REMEDIED = {
    "RNN": {"residual": "learned", "skip": 2, "nonlinearity": "elu", "dilation": 2},
    "GRU": {"skip": (2, 3), "skip_weight": "learned"},
    "LSTM": {"nonlinearity": "softsign", "skip": 2},
}
CASES = [(name, options) for name in NAMES for options in ({}, REMEDIED[name])]
over_cases = pytest.mark.parametrize(("name", "options"), CASES, ids=str)


def built(name: str, options: dict, **more):
    return getattr(gr.nn, name)(3, 5, 2, bidirectional=True, **options, **more)


def saved_whole(layer):
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer)), saved_whole],
    ids=["deepcopy", "pickle", "torch.save"],
)
@over_cases
def test_copy_computes_the_same_and_is_independent(name, options, copied):
    layer, inputs = built(name, options), torch.randn(4, 2, 3)
    before = layer(inputs)[0]

    twin = copied(layer)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1.0)

    assert torch.equal(layer(inputs)[0], before)
    assert not torch.equal(twin(inputs)[0], before)
    assert repr(twin) == repr(layer)


@over_cases
def test_functional_call_uses_and_differentiates_the_weights_given(name, options):
    layer, other = built(name, options), built(name, options)
    inputs = torch.randn(4, 2, 3)
    state = {key: value.detach().requires_grad_() for key, value in other.named_parameters()}

    output = torch.func.functional_call(layer, state, (inputs,))[0]
    output.sum().backward()

    assert torch.equal(output, other(inputs)[0])
    assert all(value.grad is not None for value in state.values())
    assert all(parameter.grad is None for parameter in layer.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_gradients_per_sample_by_vmap_equal_a_loop(name):
    layer = getattr(gr.nn, name)(3, 5, nonlinearity="softsign", dtype=torch.float64)
    parameters = {key: value.detach() for key, value in layer.named_parameters()}
    samples = torch.randn(4, 6, 3, dtype=torch.float64)  # four rows of six steps

    def loss(parameters, sample):
        return torch.func.functional_call(layer, parameters, (sample,))[0].square().sum()

    together = torch.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, samples)

    for row, sample in enumerate(samples):
        for key, wanted in torch.func.grad(loss)(parameters, sample).items():
            torch.testing.assert_close(together[key][row], wanted, rtol=0, atol=1e-12)


class Halved(torch.nn.Module):
    """A parametrisation that counts how often it is computed."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, weight):
        self.calls += 1
        return weight / 2


@over_cases
def test_parametrised_weight_is_computed_once_a_call_and_used(name, options):
    layer, inputs = built(name, options), torch.randn(4, 2, 3)
    halved = copy.deepcopy(layer)
    with torch.no_grad():
        halved.weight_hh_l0.div_(2)
    parametrize.register_parametrization(layer, "weight_hh_l0", Halved())
    counter = layer.parametrizations["weight_hh_l0"][0]
    counter.calls = 0

    output = layer(inputs)[0]
    output.sum().backward()

    assert torch.equal(output, halved(inputs)[0])
    assert layer.parametrizations["weight_hh_l0"].original.grad is not None
    assert counter.calls == 1


@pytest.mark.parametrize("name", NAMES)
def test_weight_norm_and_orthogonal_leave_the_output_and_train(name):
    layer, inputs = getattr(gr.nn, name)(3, 5), torch.randn(4, 2, 3)
    before = layer(inputs)[0]

    parametrizations.weight_norm(layer, "weight_hh_l0")
    after = layer(inputs)[0]
    after.sum().backward()

    torch.testing.assert_close(after, before, rtol=0, atol=1e-6)
    assert layer.parametrizations["weight_hh_l0"].original0.grad.abs().sum() > 0


@over_cases
def test_weight_assigned_anew_is_seen(name, options):
    layer, inputs = built(name, options), torch.randn(4, 2, 3)
    before = layer(inputs)[0]

    layer.weight_hh_l0 = torch.nn.Parameter(torch.zeros_like(layer.weight_hh_l0))

    assert not torch.equal(layer(inputs)[0], before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@over_cases
def test_module_in_16_bit_answers_in_it_and_computes_in_float32(name, options, dtype):
    layer = built(name, options).to(dtype)
    exact = copy.deepcopy(layer).float()
    inputs = torch.randn(4, 2, 3).to(dtype)

    output, state = layer(inputs)
    output.float().sum().backward()

    parts = state if name == "LSTM" else (state,)
    assert {output.dtype, *(part.dtype for part in parts)} == {dtype}
    assert torch.equal(output, exact(inputs.float())[0].to(dtype))
    assert layer.weight_hh_l0.grad.dtype == dtype


@pytest.mark.parametrize("inputs_dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("weights_dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("cell", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_autocast_answers_in_the_dtypes_of_torch(name, cell, weights_dtype, inputs_dtype):
    name = f"{name}Cell" if cell else name
    shape = (2, 3) if cell else (4, 2, 3)
    inputs = torch.randn(shape).to(inputs_dtype)
    dtypes = []
    remedied = {"nonlinearity": "relu" if name == "RNN" else "softsign"}
    for layer in (
        getattr(torch.nn, name)(3, 5, dtype=weights_dtype),
        getattr(gr.nn, name)(3, 5, dtype=weights_dtype),
        getattr(gr.nn, name)(3, 5, dtype=weights_dtype, **remedied),
    ):
        with torch.autocast("cpu", torch.bfloat16):
            result = layer(inputs)
        dtypes.append([leaf.dtype for leaf in torch.utils._pytree.tree_leaves(result)])

    assert dtypes[1] == dtypes[0]
    assert dtypes[2] == dtypes[0]


def test_autocast_leaves_float64_alone():
    layer = gr.nn.RNN(3, 5, nonlinearity="elu", dtype=torch.float64)

    with torch.autocast("cpu", torch.bfloat16):
        output, _ = layer(torch.randn(4, 2, 3, dtype=torch.float64))

    assert output.dtype == torch.float64


@over_cases
def test_layer_built_on_meta_gets_its_values_where_it_is_put(name, options):
    layer = built(name, options, device="meta").to_empty(device="cpu")

    layer.reset_parameters()

    assert all(parameter.isfinite().all() for parameter in layer.parameters())
    if options.get("residual") == "learned":
        assert layer.alpha_l0.item() == -3.0
    assert layer(torch.randn(4, 2, 3))[0].isfinite().all()


def test_flatten_parameters_exists_and_changes_nothing():
    layer, inputs = gr.nn.RNN(3, 5, nonlinearity="elu"), torch.randn(4, 2, 3)
    before = layer(inputs)[0]

    layer.flatten_parameters()

    assert torch.equal(layer(inputs)[0], before)


def test_optimizer_step_trains_every_parameter_of_a_remedied_layer():
    layer = gr.nn.RNN(3, 5, residual="learned", skip=2, skip_weight="learned")
    start = copy.deepcopy(layer.state_dict())
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)

    layer(torch.randn(6, 4, 3))[0].square().sum().backward()
    optimizer.step()

    for key, value in layer.state_dict().items():
        assert not torch.equal(value, start[key]), key
