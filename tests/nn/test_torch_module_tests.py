"""The module tests of torch's own database (ModuleInfo), run on our layers and cells.

The entries and their samples, with the reference each is compared with, are torch's; what is
done with each sample is what torch's test_modules.py does, written anew.
"""

from __future__ import annotations

import copy
import pickle
import warnings

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map_only

import gradreach as gr

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what torch's own test helpers say as they are imported
    from torch.testing._internal.common_modules import module_db

NAMES = ["RNN", "GRU", "LSTM", "RNNCell", "GRUCell", "LSTMCell"]
STRICT = {"rtol": 1e-5, "atol": 1e-8}  # gradcheck's default passes a backward wrong by 1e-4
TRAINED = [
    (info, training)
    for info in module_db
    if info.module_cls in [getattr(torch.nn, name) for name in NAMES]
    for training in ([True, False] if info.train_and_eval_differ else [True])
]
over_entries = pytest.mark.parametrize(
    ("info", "training"), TRAINED,
    ids=[f"{info.module_cls.__name__}-{training}" for info, training in TRAINED],
)  # fmt: skip


def samples_of(info, training, dtype=torch.float64, requires_grad=False):
    """Yield our module, built as the sample says, and the sample's call."""
    ours = getattr(gr.nn, info.module_cls.__name__)
    samples = info.module_inputs_func(
        info, device="cpu", dtype=dtype, requires_grad=requires_grad, training=training
    )
    for sample in samples:
        if sample.forward_input is None:
            continue
        build = sample.constructor_input
        module = ours(*build.args, **build.kwargs).to(dtype)
        yield module.train(training), sample


def called(module, sample):
    return module(*sample.forward_input.args, **sample.forward_input.kwargs)


def test_database_has_an_entry_for_each_of_our_modules():
    assert {info.module_cls.__name__ for info, _ in TRAINED} == set(NAMES)


@over_entries
def test_forward_equals_the_reference_of_the_entry(info, training):
    count = 0
    for module, sample in samples_of(info, training):
        result = called(module, sample)

        assert sample.reference_fn is not None
        call = copy.deepcopy(sample.forward_input)
        wanted = sample.reference_fn(module, *call.args, **call.kwargs)
        torch.testing.assert_close(tree_leaves(result), tree_leaves(wanted))
        count += 1
    assert count > 0


@over_entries
def test_forward_equals_torchs_module(info, training):
    for module, sample in samples_of(info, training):
        build = sample.constructor_input
        torchs = info.module_cls(*build.args, **build.kwargs).double().train(training)
        torchs.load_state_dict(module.state_dict(), strict=True)

        mine, theirs = tree_leaves(called(module, sample)), tree_leaves(called(torchs, sample))
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)


@over_entries
def test_factory_arguments_place_every_parameter(info, training):
    for module, sample in samples_of(info, training):
        build = sample.constructor_input
        made = type(module)(*build.args, **build.kwargs, device="meta", dtype=torch.float64)

        assert all(p.is_meta and p.dtype == torch.float64 for p in made.parameters())


@over_entries
def test_line_of_the_module_is_printed(info, training):
    for module, _ in samples_of(info, training):
        assert str(module).startswith(type(module).__name__)


@over_entries
def test_pickled_module_gives_the_same(info, training):
    for module, sample in samples_of(info, training):
        with torch.random.fork_rng():
            wanted = called(module, sample)
        twin = pickle.loads(pickle.dumps(module))

        torch.testing.assert_close(called(twin, sample), wanted, rtol=0, atol=0)


@over_entries
def test_call_changes_neither_its_inputs_nor_its_parameters(info, training):
    for module, sample in samples_of(info, training):
        before = copy.deepcopy((sample.forward_input.args, list(module.parameters())))

        called(module, sample)

        after = (sample.forward_input.args, list(module.parameters()))
        for old, new in zip(tree_leaves(before), tree_leaves(after), strict=True):
            assert not isinstance(old, torch.Tensor) or torch.equal(old, new)


@over_entries
def test_strided_inputs_and_parameters_give_the_same(info, training):
    def spread(values: torch.Tensor) -> torch.Tensor:
        wide = torch.stack([values, torch.full_like(values, torch.nan)], -1)
        return wide[..., 0]

    for module, sample in samples_of(info, training):
        wanted = called(module, sample)
        state = {key: spread(value.detach()) for key, value in module.named_parameters()}
        call = sample.forward_input
        if any(hasattr(part, "batch_sizes") for part in call.args):
            continue  # the rows of a packed sequence are contiguous by construction
        args = tree_map_only(torch.Tensor, spread, call.args)

        got = torch.func.functional_call(module, state, args, call.kwargs)

        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)


def function_of(module, sample):
    """Return the call as a function of its floating inputs and parameters, and these."""
    names = [name for name, _ in module.named_parameters()]
    leaves = [part for part in tree_leaves(sample.forward_input.args) if part.is_floating_point()]

    def function(*values):
        inputs, parameters = iter(values[: len(leaves)]), values[len(leaves) :]

        def fresh(part):
            return next(inputs) if part.is_floating_point() else part

        args = tree_map_only(torch.Tensor, fresh, sample.forward_input.args)
        state = dict(zip(names, parameters, strict=True))
        result = torch.func.functional_call(module, state, args)
        return tuple(part for part in tree_leaves(result) if part.requires_grad)

    return function, (*leaves, *module.parameters())


@over_entries
def test_gradients_are_those_of_finite_differences(info, training):
    for module, sample in samples_of(info, training, requires_grad=True):
        function, values = function_of(module, sample)

        assert torch.autograd.gradcheck(function, values, **STRICT, fast_mode=True)


@pytest.mark.slow  # a minute and a half; test_reference.py has the second derivatives, too
@over_entries
def test_second_gradients_are_those_of_finite_differences(info, training):
    for module, sample in samples_of(info, training, requires_grad=True):
        function, values = function_of(module, sample)

        assert torch.autograd.gradgradcheck(function, values, **STRICT, fast_mode=True)


@over_entries
def test_training_and_evaluation_differ_where_the_entry_says(info, training):
    for module, _ in samples_of(info, training):
        assert module.train().training
        assert not module.eval().training
