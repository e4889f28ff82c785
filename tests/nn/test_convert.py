"""Converting a user's model: same weights, same numbers, same objects around it."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.testing import assert_close

from gradreach.nn.connections import EulerStep
from gradreach.nn.convert import OURS, convert, why_left
from gradreach.nn.gru import GRU
from gradreach.nn.lstm import LSTM
from gradreach.nn.rnn import RNN

# Two orders of summation in float64, over sums of at most 32 terms of size 1 and 12 steps.
CLOSE = {"rtol": 1e-10, "atol": 1e-12}

LAYERS = [
    pytest.param(lambda: nn.RNN(4, 6, 2, nonlinearity="relu", batch_first=True), id="relu-rnn"),
    pytest.param(lambda: nn.RNN(4, 6, bidirectional=True), id="rnn"),
    pytest.param(lambda: nn.GRU(4, 6, 2, dropout=0.5, bidirectional=True), id="gru"),
    pytest.param(lambda: nn.LSTM(4, 6, 2, bias=False, batch_first=True), id="lstm"),
    pytest.param(lambda: nn.LSTM(4, 6, 2, bidirectional=True, proj_size=3), id="projected-lstm"),
]


CELLS = [
    pytest.param(lambda: nn.RNNCell(4, 6, nonlinearity="relu"), id="relu-rnn-cell"),
    pytest.param(lambda: nn.GRUCell(4, 6, bias=False), id="gru-cell"),
    pytest.param(lambda: nn.LSTMCell(4, 6), id="lstm-cell"),
]


class Tagger(nn.Module):
    """Embedding, three recurrent layers at several depths, and a head, as users write them."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 4)
        self.encoder = nn.LSTM(4, 6, num_layers=2, bidirectional=True, batch_first=True)
        self.inner = nn.Sequential(nn.Linear(12, 5), nn.ModuleDict({"rnn": nn.RNN(5, 5)})["rnn"])
        self.decoder = nn.GRU(5, 7)
        self.head = nn.Linear(7, 3)

    def forward(self, words):
        encoded, _ = self.encoder(self.embed(words))
        mixed, _ = self.inner(encoded.transpose(0, 1))
        _, state = self.decoder(mixed)
        return self.head(state)


def trained(model, optimizer, words, steps=5):
    for _ in range(steps):
        optimizer.zero_grad()
        model(words).square().mean().backward()
        optimizer.step()
    return [parameter.detach().clone() for parameter in model.parameters()]


# ---------------------------------------------------------------------------- what stays


def test_model_computes_and_trains_as_before_with_the_optimizer_it_had():
    model, words = Tagger().double(), torch.randint(20, (3, 12))
    twin = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    before = model(words)

    returned = convert(model)

    assert returned is model
    assert [type(model.encoder), type(model.inner[1]), type(model.decoder)] == [LSTM, RNN, GRU]
    assert_close(model(words), before, **CLOSE)
    start = [parameter.detach().clone() for parameter in model.parameters()]
    ours = trained(model, optimizer, words)
    torchs = trained(twin, torch.optim.Adam(twin.parameters(), lr=0.01), words)
    # Adam divides by √v + 1e-8: where a gradient is near 0 its rounding is magnified.
    assert_close(ours, torchs, rtol=1e-6, atol=1e-8)
    assert not any(map(torch.equal, ours, start)), "every parameter has learned"


def test_optimizer_state_and_momentum_go_on():
    model, words = Tagger().double(), torch.randint(20, (3, 12))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    trained(model, optimizer, words)
    twin = copy.deepcopy(model)
    twin_optimizer = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9)
    twin_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))

    convert(model)

    assert_close(
        trained(model, optimizer, words),
        trained(twin, twin_optimizer, words),
        rtol=1e-8,
        atol=1e-10,
    )


@pytest.mark.parametrize("build", LAYERS)
def test_layer_by_itself_gives_the_same_output_and_gradients(build):
    layer = build().double().eval()
    inputs = torch.randn(5, 3, 4, dtype=torch.float64, requires_grad=True)
    before, state = layer(inputs)
    gradients = torch.autograd.grad(before.square().sum(), [inputs, *layer.parameters()])

    ours = convert(layer)

    assert type(ours) is OURS[type(layer)]
    after, new_state = ours(inputs)
    assert_close(after, before, **CLOSE)
    assert_close(new_state, state, **CLOSE)
    new = torch.autograd.grad(after.square().sum(), [inputs, *ours.parameters()])
    assert_close(new, gradients, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("build", CELLS)
def test_cell_by_itself_gives_the_same_output(build):
    cell = build().double()
    inputs = torch.randn(3, 4, dtype=torch.float64)
    before = cell(inputs)

    ours = convert(cell)

    assert type(ours) is OURS[type(cell)]
    assert_close(ours(inputs), before, **CLOSE)


def test_cells_take_the_remedies_they_know():
    model = nn.ModuleDict({"plain": nn.RNNCell(4, 6), "gated": nn.LSTMCell(4, 6)})
    kept = list(model.parameters())

    convert(model, residual=True, forget_bias=2.0)

    assert "residual=True" in repr(model["plain"])
    assert (model["gated"].bias_ih[6:12] == 2.0).all()
    assert not model["gated"].bias_hh[6:12].any()
    assert all(map(lambda new, old: new is old, model.parameters(), kept))


@pytest.mark.parametrize("build", [*LAYERS, *CELLS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_parameters_are_the_same_objects_under_the_same_names(build, dtype):
    layer = build().to(dtype).eval()
    next(layer.parameters()).requires_grad_(False)
    before = list(layer.named_parameters())
    state = layer.state_dict()

    ours = convert(layer)

    after = list(ours.named_parameters())
    assert [name for name, _ in after] == [name for name, _ in before]
    assert all(new is old for (_, new), (_, old) in zip(after, before, strict=True))
    assert [p.requires_grad for p in ours.parameters()] == [False] + [True] * (len(after) - 1)
    assert ours.training is False
    build().load_state_dict(ours.state_dict(), strict=True)
    assert ours.state_dict().keys() == state.keys()
    for name in ("batch_first", "dropout", "bidirectional", "num_layers", "proj_size", "bias"):
        assert getattr(ours, name, None) == getattr(layer, name, None)


def test_layer_used_in_two_places_stays_one():
    shared = nn.GRU(4, 4)
    model = nn.ModuleDict({"first": nn.Sequential(shared), "second": shared})

    convert(model)

    assert type(model["second"]) is GRU
    assert model["first"][0] is model["second"]


def test_weight_tied_between_layers_stays_tied():
    model = nn.ModuleList([nn.RNN(4, 4), nn.RNN(4, 4)])
    model[1].weight_hh_l0 = model[0].weight_hh_l0

    convert(model)

    assert model[1].weight_hh_l0 is model[0].weight_hh_l0
    assert len(list(model.parameters())) == 7


def test_hooks_and_their_handles_go_with_the_layer():
    model = nn.Sequential(nn.GRU(4, 6))
    seen = []
    forward = model[0].register_forward_hook(lambda module, _, __: seen.append(type(module)))
    model[0].register_forward_pre_hook(lambda _, args: (2 * args[0], *args[1:]))
    inputs = torch.randn(5, 3, 4)
    before, _ = model(inputs)

    convert(model)

    after, _ = model(inputs)
    # float32: sums of 10 terms in another order, 5 steps.
    assert_close(after, before, rtol=1e-5, atol=1e-6)
    assert seen == [nn.GRU, GRU]
    forward.remove()
    model(inputs)
    assert len(seen) == 2


def test_what_the_user_hung_on_the_layer_goes_with_it():
    lstm = nn.LSTM(4, 6)
    lstm.note = "encoder of the left side"

    assert convert(lstm).note == "encoder of the left side"


def test_random_stream_is_left_alone():
    model = Tagger()
    stream = torch.get_rng_state()

    convert(model)

    assert torch.equal(torch.get_rng_state(), stream)


def test_second_conversion_changes_nothing():
    model = convert(nn.Sequential(nn.LSTM(4, 6)))
    layer = model[0]

    assert convert(model)[0] is layer


def test_single_layer_with_dropout_is_not_warned_about_twice():
    with pytest.warns(UserWarning, match="dropout option adds dropout"):
        layer = nn.GRU(4, 6, dropout=0.5)

    assert convert(layer).dropout == 0.5


def test_converted_model_can_be_copied():
    model, words = convert(Tagger().double()), torch.randint(20, (3, 12))

    twin = copy.deepcopy(model)

    assert_close(twin(words), model(words), **CLOSE)
    assert twin.encoder.weight_hh_l1 is not model.encoder.weight_hh_l1


@pytest.mark.gpu
def test_layer_on_the_gpu_stays_there():
    lstm = nn.LSTM(4, 6, num_layers=2, bidirectional=True, device="cuda")
    inputs = torch.randn(5, 3, 4, device="cuda")
    before, _ = lstm(inputs)

    after, _ = convert(lstm)(inputs)

    assert after.is_cuda
    assert_close(after, before, rtol=1e-4, atol=1e-5)  # TF32 is off; sums in another order


# ---------------------------------------------------------------------------- remedies


def test_remedy_goes_only_where_its_layer_knows_it():
    model = nn.ModuleDict({"plain": nn.RNN(4, 6), "gated": nn.LSTM(4, 6), "other": nn.GRU(4, 6)})
    parameters = list(model.parameters())
    plain = [parameter.clone() for parameter in model["plain"].parameters()]
    weight = model["gated"].weight_hh_l0.clone()

    convert(model, forget_bias=2.0)

    assert all(map(lambda new, old: new is old, model.parameters(), parameters))
    assert all(map(torch.equal, model["plain"].parameters(), plain))
    assert torch.equal(model["gated"].weight_hh_l0, weight)
    assert (model["gated"].bias_ih_l0[6:12] == 2.0).all()
    assert not model["gated"].bias_hh_l0[6:12].any()
    assert (model["other"].bias_ih_l0[6:12] == 2.0).all()


def test_chrono_reaches_the_users_own_parameters():
    lstm = nn.LSTM(4, 60)
    bias = lstm.bias_ih_l0

    convert(lstm, forget_bias="chrono", max_lag=100)

    keep = bias[60:120].detach()
    assert keep.unique().numel() == 60
    assert keep.min() >= 0 and keep.max() <= math.log(99) + 1e-6
    assert torch.equal(bias[:60], -bias[60:120])


def test_init_rewrites_the_users_own_parameters():
    rnn = nn.RNN(4, 6, nonlinearity="relu")
    weight = rnn.weight_hh_l0

    convert(rnn, init=("identity", 0.9))

    assert torch.equal(weight, torch.tensor(0.9) * torch.eye(6))


def test_residual_keeps_weights_and_adds_the_state_before():
    rnn = nn.RNN(4, 6, dtype=torch.float64)
    weights = [parameter.clone() for parameter in rnn.parameters()]
    step, state = torch.randn(1, 3, 4, dtype=torch.float64), torch.randn(1, 3, 6).double()
    expected = state + rnn(step, state)[0]

    ours = convert(rnn, residual=True)

    assert_close(ours(step, state)[0], expected, **CLOSE)
    assert all(map(torch.equal, rnn.parameters(), weights))


def test_other_nonlinearity_is_a_remedy():
    ours = convert(nn.RNN(4, 6), nonlinearity="leaky_relu")

    assert ours.nonlinearity == "leaky_relu"


def test_remedies_of_plain_rnns_pass_by_gated_layers_beside_them():
    model = nn.ModuleDict({"plain": nn.RNN(4, 6), "gated": nn.LSTM(4, 6)})
    gated = [parameter.clone() for parameter in model["gated"].parameters()]

    convert(model, nonlinearity="relu", residual=True, init=("identity", 0.9))

    assert torch.equal(model["plain"].weight_hh_l0, torch.tensor(0.9) * torch.eye(6))
    assert "residual=True" in repr(model["plain"])
    assert model["plain"].nonlinearity == "relu"
    assert repr(model["gated"]) == repr(LSTM(4, 6))
    assert all(map(torch.equal, model["gated"].parameters(), gated))


@pytest.mark.parametrize("remedy", [{"residual": True}, {"init": "identity"}])
def test_gated_layer_by_itself_says_why_it_refuses(remedy):
    model = nn.Sequential(nn.LSTM(4, 6))

    with pytest.raises(ValueError, match="cell state c already carries|must meet a plain rnn"):
        convert(model, **remedy)

    assert type(model[0]) is nn.LSTM


def test_refused_remedy_names_its_layer_and_changes_nothing():
    model = Tagger()
    layers, weights = list(model.modules()), [p.clone() for p in model.parameters()]

    with pytest.raises(ValueError, match="needs `max_lag`") as refused:
        convert(model, init="orthogonal", forget_bias="chrono")

    assert "raised by convert for the layer 'encoder'" in refused.value.__notes__[0]
    assert list(model.modules()) == layers
    assert all(map(torch.equal, model.parameters(), weights))


def test_parameters_added_by_a_remedy_start_beside_the_kept_ones():
    rnn = nn.RNN(4, 6, dtype=torch.float64)
    kept = list(rnn.parameters())

    ours = convert(rnn, nonlinearity="modrelu", residual="learned")

    added = [p for p in ours.parameters() if not any(p is old for old in kept)]
    assert len(added) == 3 and all(p.dtype == torch.float64 and p.requires_grad for p in added)
    ours(torch.randn(5, 3, 4, dtype=torch.float64))[0].sum().backward()
    assert all(p.grad is not None for p in ours.parameters())


def test_unstable_euler_step_is_told_of_the_weights_that_are_kept():
    quiet, loud = nn.RNN(4, 6), nn.RNN(4, 6)
    with torch.no_grad():
        quiet.weight_hh_l0.zero_()
        loud.weight_hh_l0.mul_(50)

    convert(quiet, residual=EulerStep(1.0))  # W - Wᵀ = 0: nothing grows
    with pytest.warns(UserWarning, match="forward Euler step is not stable"):
        convert(loud, residual=EulerStep(1.0))


# ---------------------------------------------------------------------------- what is left


class Loud(nn.LSTM):
    def forward(self, *args):
        return super().forward(*args)


def pruned():
    return prune.random_unstructured(nn.LSTM(4, 6), "weight_hh_l0", amount=0.5)


def spectral():
    return nn.utils.parametrizations.spectral_norm(nn.GRU(4, 6), "weight_hh_l0")


def patched():
    layer = nn.GRU(4, 6)
    layer.forward = layer.forward
    return layer


def saving():
    layer = nn.GRU(4, 6)
    layer.register_state_dict_post_hook(lambda *_: None)
    return layer


def extended():
    layer = nn.GRU(4, 6)
    layer.register_buffer("mean", torch.zeros(4))
    return layer


LEFT = [
    (lambda: Loud(4, 6), "of class Loud, whose own code would be lost"),
    (pruned, "parameters, buffers or modules were added or replaced"),
    (spectral, "parametrized"),
    (patched, "its forward was replaced on the instance"),
    (saving, "hooks on its state dict"),
    (extended, "parameters, buffers or modules were added or replaced"),
]


@pytest.mark.parametrize(("build", "reason"), LEFT)
def test_layer_that_would_lose_something_is_left_and_told(build, reason):
    odd = build()
    model = nn.ModuleDict({"odd": odd, "even": nn.RNN(4, 6)})

    with pytest.warns(UserWarning, match=f"convert left as they were: odd: {reason}"):
        convert(model)

    assert model["odd"] is odd
    assert type(model["even"]) is RNN
    assert why_left(odd).startswith(reason)


@pytest.mark.parametrize(("build", "reason"), LEFT)
def test_model_with_nothing_to_convert_is_refused_with_the_reason(build, reason):
    with pytest.raises(ValueError, match=f"holds none that can be swapped .*{reason}"):
        convert(nn.Sequential(build()))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_scripted_layer_is_left():
    model = nn.ModuleList([torch.jit.script(nn.GRU(4, 6)), nn.RNN(4, 6)])

    with pytest.warns(UserWarning, match="0: scripted"):
        convert(model)

    assert type(model[1]) is RNN


def test_model_without_recurrence_is_refused():
    with pytest.raises(ValueError, match="`module` must hold a recurrent layer of torch.nn"):
        convert(nn.Sequential(nn.Linear(4, 6)))


def test_remedy_for_layers_that_are_ours_already_is_refused():
    with pytest.raises(ValueError, match="holds none that can be swapped"):
        convert(LSTM(4, 6), forget_bias=1.0)


def test_unknown_remedy_is_refused_and_changes_nothing():
    model = nn.Sequential(nn.LSTM(4, 6))

    with pytest.raises(
        TypeError, match=r"`forget_bais` must be known to one of the layers found .LSTM."
    ):
        convert(model, forget_bais=1.0)

    assert type(model[0]) is nn.LSTM


@pytest.mark.parametrize("name", ["hidden_size", "batch_first", "proj_size", "device", "dtype"])
def test_what_a_layer_was_built_with_cannot_be_changed(name):
    with pytest.raises(TypeError, match=f"`{name}` must stay what the layer was built with"):
        convert(nn.LSTM(4, 6), **{name: 1})


def test_every_recurrent_module_of_torch_has_a_counterpart():
    kinds = {f"{kind}{part}" for kind in ("RNN", "GRU", "LSTM") for part in ("", "Cell")}

    assert {torchs.__name__ for torchs in OURS} == kinds
    assert all(issubclass(ours, torchs) for torchs, ours in OURS.items())
