"""Starting values by name: what is written, what is left alone, what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.testing import assert_close

from gradreach.nn.initialization import initialize
from gradreach.nn.initializers import INITIALIZERS, indrnn_range
from gradreach.nn.layer_weights import LayerWeights, layer_weights

H = 16
LAYERS = [
    pytest.param(lambda **more: nn.RNN(3, H, num_layers=2, bidirectional=True, **more), id="rnn"),
    pytest.param(lambda **more: nn.GRU(3, H, num_layers=2, bidirectional=True, **more), id="gru"),
    pytest.param(lambda **more: nn.LSTM(3, H, num_layers=2, bidirectional=True, **more), id="lstm"),
    pytest.param(lambda **more: nn.RNNCell(3, H, **more), id="rnn-cell"),
    pytest.param(lambda **more: nn.GRUCell(3, H, **more), id="gru-cell"),
    pytest.param(lambda **more: nn.LSTMCell(3, H, **more), id="lstm-cell"),
]


def is_orthogonal(block, gain=1.0):
    # A Householder QR leaves an error of a few roundings per column: H·eps bounds its sum.
    tolerance = 2 * gain**2 * len(block) * torch.finfo(block.dtype).eps
    expected = gain**2 * torch.eye(block.shape[1], dtype=block.dtype)
    return torch.allclose(block.T @ block, expected, rtol=0, atol=tolerance)


class ElementwiseCell(nn.Module):
    """An IndRNN step, under torch's names."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.hidden_size = hidden_size
        self.weight_ih = nn.Parameter(torch.zeros(hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.zeros(hidden_size))


# ---------------------------------------------------------------------------- what is written


@pytest.mark.parametrize("build", LAYERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_default_gives_torchs_own_numbers_for_a_seed(build, dtype):
    torch.manual_seed(3)
    expected = build(dtype=dtype)
    layer = build(dtype=dtype)

    torch.manual_seed(3)
    initialize(layer, "default")

    for ours, torchs in zip(layer.parameters(), expected.parameters(), strict=True):
        assert torch.equal(ours, torchs)


def test_default_of_a_projected_lstm_gives_torchs_own_numbers():
    torch.manual_seed(3)
    expected = nn.LSTM(3, 8, num_layers=2, proj_size=2)
    layer = nn.LSTM(3, 8, num_layers=2, proj_size=2)

    torch.manual_seed(3)
    initialize(layer, "default")

    assert all(map(torch.equal, layer.parameters(), expected.parameters()))


@pytest.mark.parametrize(
    ("init", "scale"),
    [("identity", 1.0), (("identity", 0.98), 0.98), (("scaled_identity", -0.5), -0.5)],
)
def test_identity_keeps_state_and_silences_everything_else(init, scale):
    rnn = nn.RNN(100, 64, num_layers=2, bidirectional=True, nonlinearity="relu")

    initialize(rnn, init)

    for weights in layer_weights(rnn):
        assert torch.equal(weights.weight_hh, torch.tensor(scale) * torch.eye(64))
        assert not weights.bias_ih.any() and not weights.bias_hh.any()
        # A sample's standard deviation scatters by σ/√(2n), n ≥ 6,400: five of them are 4.5 %.
        assert weights.weight_ih.std().item() == pytest.approx(0.001, rel=0.045)
        assert abs(weights.weight_ih.mean().item()) < 5 * 0.001 / math.sqrt(6400)


@pytest.mark.parametrize("scale", [1.0, 0.99])
def test_identity_carries_gradient_of_active_units_by_scale_per_step(scale):
    rnn = nn.RNN(1, H, nonlinearity="relu", dtype=torch.float64)
    initialize(rnn, ("identity", scale))
    start = torch.rand(1, 1, H, dtype=torch.float64) + 0.1
    start.requires_grad_()

    output, _ = rnn(torch.zeros(200, 1, 1, dtype=torch.float64), start)
    output[-1].sum().backward()

    # 200 products in float64 round by 200·eps = 4e-14 at most.
    assert_close(start.grad, torch.full_like(start, scale**200), rtol=1e-13, atol=0)


def test_identity_works_without_biases():
    cell = nn.RNNCell(3, H, bias=False)

    initialize(cell, "identity")

    assert torch.equal(cell.weight_hh, torch.eye(H))


@pytest.mark.parametrize("build", LAYERS)
@pytest.mark.parametrize(("init", "gain"), [("orthogonal", 1.0), (("orthogonal", 1.3), 1.3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_orthogonal_makes_each_gates_block_orthogonal(build, init, gain, dtype):
    layer = build(dtype=dtype)
    others = {n: p.clone() for n, p in layer.named_parameters() if "weight_hh" not in n}

    initialize(layer, init)

    for weights in layer_weights(layer):
        blocks = weights.recurrent_blocks()
        assert all(is_orthogonal(block, gain) for block in blocks)
        assert not any(torch.equal(blocks[0], block) for block in blocks[1:])
    assert all(torch.equal(layer.get_parameter(name), was) for name, was in others.items())


def test_orthogonal_blocks_of_fused_init_of_torch_are_not_orthogonal():
    # The mistake that "per gate" avoids; also shows that `is_orthogonal` can say no.
    lstm = nn.LSTM(3, H)

    nn.init.orthogonal_(lstm.weight_hh_l0)

    [weights] = layer_weights(lstm)
    assert not any(is_orthogonal(block) for block in weights.recurrent_blocks())


def test_orthogonal_block_of_projected_lstm_has_orthonormal_columns():
    lstm = nn.LSTM(3, H, proj_size=5)
    projection = lstm.weight_hr_l0.clone()

    initialize(lstm, "orthogonal")

    [weights] = layer_weights(lstm)
    assert [tuple(block.shape) for block in weights.recurrent_blocks()] == [(H, 5)] * 4
    assert all(is_orthogonal(block) for block in weights.recurrent_blocks())
    assert torch.equal(lstm.weight_hr_l0, projection)


def test_orthogonal_is_there_for_half_precision():
    gru = nn.GRU(3, H, dtype=torch.float16)

    initialize(gru, "orthogonal")

    for block in layer_weights(gru)[0].recurrent_blocks():
        # Each entry is rounded once to 11 bits: the product of two columns by at most 2^-10.
        assert_close(block.float().T @ block.float(), torch.eye(H), rtol=0, atol=2**-10)


def test_np_rnn_keeps_one_direction_and_fades_the_rest():
    rnn = nn.RNN(3, 256, dtype=torch.float64)
    inputs = rnn.weight_ih_l0.clone()

    initialize(rnn, "np-rnn")

    weight = rnn.weight_hh_l0.detach()
    eigenvalues = torch.linalg.eigvalsh(weight)
    assert_close(weight, weight.T, rtol=0, atol=1e-15)
    assert eigenvalues[-1].item() == pytest.approx(1.0, abs=1e-13)  # 256·eps = 6e-14
    assert eigenvalues[-2] < 1.0
    # λ_max(RᵀR/H) lies at 4 with fluctuations of 2.5·H^(-2/3) = 0.06 (Tracy-Widom): the lowest
    # eigenvalue is (0 + 1)/(4 + 1); six fluctuations to each side.
    assert 1 / 5.4 < eigenvalues[0].item() < 1 / 4.6
    assert not rnn.bias_ih_l0.any() and not rnn.bias_hh_l0.any()
    assert torch.equal(rnn.weight_ih_l0, inputs)


def test_indrnn_fills_its_range_evenly():
    cell = ElementwiseCell(3, 4000)

    initialize(cell, ("indrnn", 100))

    high = 2 ** (1 / 100)
    drawn = cell.weight_hh.detach()
    assert 0 <= drawn.min() < 0.01 and high - 0.01 < drawn.max() <= high
    # The mean of 4,000 uniform numbers scatters by high/√(12·4000): five of them.
    assert drawn.mean().item() == pytest.approx(high / 2, abs=5 * high / math.sqrt(12 * 4000))


@pytest.mark.parametrize("steps", [1, 50, 784, 5000])
def test_indrnn_range_doubles_or_halves_over_all_steps(steps):
    low, high = indrnn_range(steps, last_layer=True)

    # A power of T multiplies the rounding of its base by T.
    assert low**steps == pytest.approx(0.5, rel=steps * 1e-15)
    assert high**steps == pytest.approx(2.0, rel=steps * 1e-15)
    assert indrnn_range(steps) == (0.0, high)


# ---------------------------------------------------------------------------- in place, seeded


@pytest.mark.parametrize("init", ["default", "identity", "orthogonal", "np-rnn"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_initialize_keeps_parameters_what_they_are(init, dtype):
    rnn = nn.RNN(3, H, dtype=dtype)
    rnn.bias_hh_l0.requires_grad_(False)
    before = {name: (id(p), p.data_ptr()) for name, p in rnn.named_parameters()}

    initialize(rnn, init)

    assert {name: (id(p), p.data_ptr()) for name, p in rnn.named_parameters()} == before
    assert all(p.is_leaf and p.dtype == dtype for p in rnn.parameters())
    assert rnn.weight_hh_l0.requires_grad and not rnn.bias_hh_l0.requires_grad


@pytest.mark.parametrize("init", ["default", "identity", "orthogonal", "np-rnn"])
def test_generator_decides_alone(init):
    first, second, third = (nn.RNN(3, H) for _ in range(3))
    stream = torch.get_rng_state()

    initialize(first, init, generator=torch.Generator().manual_seed(1))
    initialize(second, init, generator=torch.Generator().manual_seed(1))
    initialize(third, init, generator=torch.Generator().manual_seed(2))

    assert torch.equal(first.weight_hh_l0, second.weight_hh_l0)
    written = "weight_ih_l0" if init == "identity" else "weight_hh_l0"  # I itself is not drawn
    assert not torch.equal(first.get_parameter(written), third.get_parameter(written))
    assert torch.equal(torch.get_rng_state(), stream)


@pytest.mark.gpu
@pytest.mark.parametrize("init", ["default", "identity", "orthogonal", "np-rnn"])
def test_generator_of_the_cpu_serves_a_layer_on_the_gpu(init):
    here, there = nn.RNN(3, H), nn.RNN(3, H, device="cuda")

    initialize(here, init, generator=torch.Generator().manual_seed(1))
    initialize(there, init, generator=torch.Generator().manual_seed(1))

    assert there.weight_hh_l0.is_cuda
    assert_close(there.weight_ih_l0.cpu(), here.weight_ih_l0)
    # The factorisation runs on the other device, with roundings of its own.
    assert_close(there.weight_hh_l0.cpu(), here.weight_hh_l0, rtol=1e-5, atol=1e-5)


def test_bare_tensors_are_initialised_like_a_layer():
    weights = LayerWeights(torch.ones(3 * H, 2), torch.ones(3 * H, H), hidden_size=H)

    initialize(weights, "orthogonal")

    assert all(is_orthogonal(block) for block in weights.recurrent_blocks())
    assert torch.equal(weights.weight_ih, torch.ones(3 * H, 2))


def test_own_function_is_taken_for_a_name(monkeypatch):
    def cyclic(weights, value, generator):
        weights.weight_hh.copy_(value or 1.0).mul_(torch.eye(H).roll(1, 0))

    monkeypatch.setitem(INITIALIZERS, "cyclic", cyclic)
    by_name, by_function = nn.RNN(3, H), nn.RNN(3, H)

    initialize(by_name, ("cyclic", 0.5))
    initialize(by_function, lambda weights, _, __: weights.weight_hh.fill_(7.0))

    assert torch.equal(by_name.weight_hh_l0, 0.5 * torch.eye(H).roll(1, 0))
    assert (by_function.weight_hh_l0 == 7.0).all()


# ---------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("init", "error", "message"),
    [
        ("smart", ValueError, '"default", "identity", "scaled_identity", "orthogonal"'),
        (("smart", 1.0), ValueError, "but is 'smart'"),
        (3, TypeError, "`init` must be a name"),
        (("identity", 1.0, 2.0), TypeError, "`init` must be a name"),
        (("identity", math.nan), ValueError, "must be finite, but is nan"),
        (("identity", True), ValueError, "must be finite, but is True"),
        (("identity", "big"), ValueError, "must be finite, but is 'big'"),
        (("default", 1.0), ValueError, '"default" takes no number'),
        (("np-rnn", 1.0), ValueError, '"np-rnn" takes no number'),
        ("scaled_identity", ValueError, '"scaled_identity" needs its scale'),
        (("indrnn", 100), ValueError, r"is a dense (16, 16) matrix"),
    ],
)
def test_unfit_init_is_refused_and_changes_nothing(init, error, message):
    rnn = nn.RNN(3, H)
    before = [p.clone() for p in rnn.parameters()]

    with pytest.raises(error, match=message.replace("(", r"\(").replace(")", r"\)")):
        initialize(rnn, init)

    assert all(map(torch.equal, rnn.parameters(), before))


@pytest.mark.parametrize("name", ["identity", "np-rnn"])
@pytest.mark.parametrize("build", [nn.GRU, nn.LSTM, nn.GRUCell, nn.LSTMCell])
def test_gated_layer_refuses_what_is_meant_for_the_state(name, build):
    with pytest.raises(ValueError, match="must meet a plain rnn"):
        initialize(build(3, H), name)


@pytest.mark.parametrize("init", ["identity", "orthogonal", "np-rnn"])
def test_elementwise_recurrence_refuses_matrices(init):
    with pytest.raises(ValueError, match="holds one number per unit"):
        initialize(ElementwiseCell(3, H), init)


def test_indrnn_needs_the_number_of_steps():
    with pytest.raises(ValueError, match="needs the number of steps"):
        initialize(ElementwiseCell(3, H), "indrnn")


@pytest.mark.parametrize("steps", [0, -3, math.inf, math.nan])
def test_indrnn_range_refuses_what_is_no_length(steps):
    with pytest.raises(ValueError, match="`steps` must be a finite number from 1 up"):
        indrnn_range(steps)


def test_model_instead_of_layer_is_refused():
    with pytest.raises(TypeError, match="pass the layer itself, not the model around it"):
        initialize(nn.Sequential(nn.RNN(3, H)), "default")


def test_wrong_number_of_rows_is_refused():
    with pytest.raises(ValueError, match="must have 1, 3 or 4 times `hidden_size` = 16 rows"):
        LayerWeights(torch.ones(2 * H, 2), torch.ones(2 * H, H), hidden_size=H)


@pytest.mark.parametrize("how", ["parametrized", "pruned"])
def test_computed_weight_is_refused(how):
    rnn = nn.RNN(3, H)
    if how == "parametrized":
        nn.utils.parametrizations.spectral_norm(rnn, "weight_hh_l0")
    else:
        prune.random_unstructured(rnn, "weight_hh_l0", amount=0.5)

    with pytest.raises(ValueError, match="`weight_hh_l0` of .* is computed from others"):
        initialize(rnn, "identity")
