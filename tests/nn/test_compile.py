"""Layers under torch.compile: one graph, the numbers of eager, sequences of any length."""

from __future__ import annotations

import copy
import shutil

import pytest
import torch

import gradreach as gr
from gradreach.kernels.native import core

NAMES = ["RNN", "GRU", "LSTM"]

# The same operations in the same order, but for what a compiler fuses around the layer.
CLOSE = {"rtol": 1e-5, "atol": 1e-6}

pytestmark = [
    pytest.mark.timeout(300),
    # torch's own, of its compiler: what it deprecates, and how it looks at states of other graphs.
    pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
]


@pytest.fixture(autouse=True)
def _native(lacks):
    core.load() or lacks(f"a native core: {core.why_not_loaded()}")


@pytest.fixture(autouse=True)
def allow_rnn():
    """Torch refuses all that is an `nn.RNN`, ours too, unless it is told not to."""
    import torch._dynamo as dynamo

    dynamo.reset()
    with dynamo.config.patch(allow_rnn=True):
        yield
    dynamo.reset()


class Counted:
    """A backend that counts the graphs and their nodes, and runs them as they are."""

    def __init__(self):
        self.graphs = []

    def __call__(self, graph, inputs):
        self.graphs.append(graph)
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

    def layers(self) -> list[int]:
        """Return how many layers stand as one node in each graph."""
        return [
            sum("gradreach.recurrence" in str(node.target) for node in graph.graph.nodes)
            for graph in self.graphs
        ]


class Model(torch.nn.Module):
    """What a layer stands in: something before and something after."""

    def __init__(self, name: str, **options):
        super().__init__()
        self.embed = torch.nn.Linear(2, 3)
        self.rnn = getattr(gr.nn, name)(3, 17, **options)
        self.head = torch.nn.Linear(17 * (1 + bool(options.get("bidirectional"))), 1)

    def forward(self, x):
        return self.head(self.rnn(self.embed(x).relu())[0]).tanh()


def assert_same_training_step(model, compiled, x):
    results = []
    for run in (model, compiled):
        model.zero_grad()
        output = run(x)
        output.square().sum().backward()
        results.append([output.detach(), *(p.grad.clone() for p in model.parameters())])
    for got, wanted in zip(*reversed(results), strict=True):
        torch.testing.assert_close(got, wanted, **CLOSE)


@pytest.mark.parametrize("name", NAMES)
def test_model_is_one_graph_with_one_node_for_the_layer(name):
    model, backend = Model(name), Counted()
    compiled = torch.compile(model, fullgraph=True, backend=backend)

    assert_same_training_step(model, compiled, torch.randn(7, 2, 2))

    assert backend.layers() == [1]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("RNN", {"nonlinearity": "leaky_relu", "residual": "learned", "skip": 2}),
        ("RNN", {"nonlinearity": "modrelu", "dilation": 2, "batch_first": True}),
        ("GRU", {"num_layers": 2, "bidirectional": True}),
        ("LSTM", {"num_layers": 2, "skip": 2, "skip_weight": "learned"}),
        ("LSTM", {"bias": False, "batch_first": True}),
    ],
    ids=str,
)
def test_remedies_layers_and_directions_stay_in_one_graph(name, options):
    model, backend = Model(name, **options), Counted()
    compiled = torch.compile(model, fullgraph=True, backend=backend)

    assert_same_training_step(model, compiled, torch.randn(6, 4, 2))

    layers = options.get("num_layers", 1) * (1 + bool(options.get("bidirectional")))
    assert backend.layers() == [layers]


@pytest.mark.parametrize("name", NAMES)
def test_sequences_of_any_length_share_one_graph(name):
    model, backend = Model(name), Counted()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=backend)

    for steps, rows in ((5, 3), (9, 3), (31, 4), (2, 8)):
        assert_same_training_step(model, compiled, torch.randn(steps, rows, 2))

    # Where there are symbolic floats torch first makes a graph that it empties again.
    assert [layers for layers in backend.layers() if layers] == [1]


def test_length_found_to_vary_is_compiled_once_more_and_no_more():
    model, backend = Model("GRU"), Counted()
    compiled = torch.compile(model, fullgraph=True, backend=backend)

    for steps in (5, 9, 31, 12):
        assert_same_training_step(model, compiled, torch.randn(steps, 3, 2))

    assert len(backend.graphs) == 2


@pytest.mark.parametrize("name", NAMES)
def test_state_given_and_returned_passes_through_the_graph(name):
    layer = getattr(gr.nn, name)(3, 5)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x, state = torch.randn(4, 2, 3), layer(torch.randn(4, 2, 3))[1]

    got, wanted = compiled(x, state), layer(x, state)

    for one, other in zip(
        *(torch.utils._pytree.tree_leaves(r) for r in (got, wanted)), strict=True
    ):
        torch.testing.assert_close(one, other, **CLOSE)


@pytest.mark.parametrize("name", NAMES)
def test_without_gradients_nothing_is_kept_for_a_backward(name):
    layer, backend = getattr(gr.nn, name)(3, 5), Counted()
    compiled = torch.compile(layer, fullgraph=True, backend=backend)
    x = torch.randn(4, 2, 3)

    with torch.no_grad():
        output = compiled(x)[0]

    torch.testing.assert_close(output, layer(x)[0], **CLOSE)
    (node,) = [n for n in backend.graphs[0].graph.nodes if "gradreach.recurrence" in str(n.target)]
    assert node.args[-1] is False  # keep


@pytest.mark.parametrize("name", NAMES)
def test_autocast_inside_the_graph_answers_as_eager(name):
    model = Model(name)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    x = torch.randn(4, 2, 2)

    with torch.autocast("cpu", torch.bfloat16):
        got, wanted = compiled(x), model(x)

    assert got.dtype == wanted.dtype
    torch.testing.assert_close(got, wanted, rtol=0, atol=0.02)  # two roundings of bfloat16


@pytest.mark.parametrize("name", NAMES)
def test_frozen_layer_stays_in_the_graph(name):
    model = Model(name)
    model.rnn.requires_grad_(False)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    x = torch.randn(4, 2, 2)

    compiled(x).sum().backward()
    got = model.embed.weight.grad.clone()
    model.zero_grad()
    model(x).sum().backward()

    torch.testing.assert_close(got, model.embed.weight.grad, **CLOSE)


@pytest.mark.parametrize("name", NAMES)
def test_cells_need_no_permission(name):
    cell = getattr(gr.nn, f"{name}Cell")(3, 5)
    with torch._dynamo.config.patch(allow_rnn=False):
        compiled = torch.compile(cell, fullgraph=True, backend="aot_eager")
        got = compiled(torch.ones(2, 3))

    wanted = cell(torch.ones(2, 3))
    for one, other in zip(
        *(torch.utils._pytree.tree_leaves(r) for r in (got, wanted)), strict=True
    ):
        torch.testing.assert_close(one, other, **CLOSE)


@pytest.mark.parametrize("name", NAMES)
def test_without_permission_the_graph_breaks_at_the_layer_and_the_numbers_hold(name):
    model = Model(name)
    with torch._dynamo.config.patch(allow_rnn=False):
        compiled = torch.compile(model, backend="aot_eager")

        assert_same_training_step(model, compiled, torch.randn(5, 3, 2))
        assert_same_training_step(model, compiled, torch.randn(8, 3, 2))


def test_activation_without_native_code_is_compiled_from_plain_operations():
    layer, backend = gr.nn.RNN(3, 5, nonlinearity=torch.sin), Counted()
    compiled = torch.compile(layer, fullgraph=True, backend=backend)
    x = torch.randn(4, 2, 3)

    torch.testing.assert_close(compiled(x)[0], layer(x)[0], **CLOSE)

    assert backend.layers() == [0]


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_inductor_compiles_forward_and_backward(name, dynamic, lacks):
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        lacks("a C++ compiler, which inductor calls")
    model = Model(name)
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True, dynamic=dynamic)

    for steps in (5, 9) if dynamic else (5,):
        x = torch.randn(steps, 3, 2)
        for run in (model, compiled):
            run.zero_grad()
            run(x).square().sum().backward()
        for got, wanted in zip(compiled.parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(got.grad, wanted.grad, **CLOSE)
