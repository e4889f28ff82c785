"""The treatments of layers: what is proposed from what was measured, and models already built."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conformance.test_treatments import facts, found
from tests.treatments.trials import assert_same_bits, run, treated_and_patched
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.testing import assert_close

import gradreach as gr
from gradreach.treatments import (
    Activation,
    Chrono,
    Gating,
    Initialization,
    Interception,
    LayerFacts,
    Residual,
    RunFacts,
    Skip,
    Treatment,
    TreatmentError,
    treat,
    treatment_from,
)


def labels(family: type[Treatment], code: str = "vanishing-gradient", **known: Any) -> list[str]:
    return [each.label for each in family.candidates(found(code), facts(**known))]


def test_vanishing_tanh_is_offered_gates_and_starts_best_first() -> None:
    start = "initialization(chrono, max_lag=150)"
    assert labels(Gating) == [
        f"gating(GRU) + {start}", "gating(GRU)", f"gating(LSTM) + {start}", "gating(LSTM)",
    ]  # fmt: skip
    assert labels(Gating, sequence_steps=None) == ["gating(GRU)", "gating(LSTM)"]
    assert labels(Initialization)[0] == "initialization(orthogonal)"
    assert labels(Activation)[0] == (
        "activation(relu) + initialization(identity) + clipping(norm=1.0)"
    )


def test_unbounded_activation_brings_no_second_clip_where_the_script_clips() -> None:
    assert labels(Activation, clip_calls=1.0)[0] == "activation(relu) + initialization(identity)"


@pytest.mark.parametrize(
    ("code", "first"),
    [("dead-units", "activation(leaky_relu)"), ("exploding-gradient", "activation(tanh)")],
)
def test_relu_that_dies_or_explodes_is_offered_what_helps_against_that(
    code: str, first: str
) -> None:
    relu = (LayerFacts(kind="rnn", hidden_size=8, nonlinearity="relu"),)

    assert labels(Activation, code, layers=relu)[0] == first


def test_lags_are_taken_from_what_the_task_needs_else_from_its_sequences() -> None:
    assert labels(Chrono, kind="lstm") == ["initialization(chrono, max_lag=150)"]
    assert labels(Chrono, kind="gru", needs_lag=40) == ["initialization(chrono, max_lag=40)"]
    assert labels(Chrono, kind="lstm", sequence_steps=None) == []
    assert labels(Skip) == ["skip(lag=15)", "skip(lag=30)"]
    assert labels(Skip, needs_lag=80) == ["skip(lag=8)", "skip(lag=16)"]
    assert labels(Residual)[0] == "residual(alpha=0.007, beta=0.993)"


@pytest.mark.parametrize(
    ("label", "layer", "reason"),
    [
        ("gating(GRU)", {"kind": "lstm"}, "there is no nn.RNN"),
        (
            "gating(LSTM)",
            {"kind": "rnn", "treatable": False, "left": "of class Mine"},
            "of class M",
        ),
        ("activation(relu)", {"kind": "gru"}, "there is no nn.RNN that could be built otherwise"),
        ("activation(tanh)", {"kind": "rnn"}, "its activation is tanh already"),
        ("initialization(identity)", {"kind": "lstm"}, "gates decide what a gated layer keeps"),
        ("initialization(chrono, max_lag=9)", {"kind": "rnn"}, "there is no nn.LSTM or nn.GRU"),
        ("initialization(forget_bias=1.0)", {"kind": "gru", "bias": False}, "bias=False"),
        ("skip(lag=2)", {"kind": "rnn", "cell": True}, "a cell called step by step sees one"),
        ("skip(lag=2)", {"kind": "lstm", "proj_size": 3}, "proj_size"),
        ("skip(lag=200)", {"kind": "lstm"}, "its sequences have 150 steps"),
        ("residual()", {"kind": "gru"}, "there is no nn.RNN"),
    ],
)
def test_treatment_refuses_what_it_cannot_treat(
    label: str, layer: dict[str, Any], reason: str
) -> None:
    known = RunFacts(layers=(LayerFacts(hidden_size=8, **layer),), sequence_steps=150)

    assert reason in (treatment_from(label).refuses(known) or "")


def test_combined_treatments_are_asked_of_what_those_before_them_leave() -> None:
    chrono = treatment_from("gating(LSTM) + initialization(chrono, max_lag=150)")

    assert chrono.refuses(facts("rnn")) is None
    assert chrono.applies_to(found(), facts("rnn"))
    late = treatment_from("gating(GRU) + skip(lag=9)")
    assert "its sequences have 5 steps" in str(late.refuses(facts("rnn", sequence_steps=5)))


def test_facts_survive_being_stored() -> None:
    with Interception() as run_of:
        nn.RNN(2, 8)
    known = facts(detached=tuple(run_of.sites), sites=tuple(run_of.sites))

    assert RunFacts.from_dict(known.to_dict()) == known


BUILT = [
    ("activation(relu)", nn.RNN(3, 5), {"nonlinearity": "relu"}),
    ("initialization(orthogonal)", nn.GRU(3, 5), {"init": "orthogonal"}),
    ("initialization(chrono, max_lag=9)", nn.LSTM(3, 5), {"forget_bias": "chrono", "max_lag": 9}),
    ("skip(lag=2)", nn.LSTM(3, 5), {"skip": 2}),
    ("residual(learned)", nn.RNNCell(3, 5), {"residual": "learned"}),
]


@pytest.mark.parametrize(("label", "layer", "remedies"), BUILT, ids=[row[0] for row in BUILT])
def test_built_model_is_treated_as_convert_would(
    label: str, layer: nn.Module, remedies: dict[str, Any]
) -> None:
    model = nn.ModuleDict({"rnn": layer, "head": nn.Linear(5, 1)})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    treated = treatment_from(label).apply(model, optimizer)

    grouped = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert treated is model
    assert {id(p) for p in model.parameters()} == grouped
    assert type(model["rnn"]).__module__.startswith("gradreach.nn.")
    for name, value in remedies.items():
        assert f"{name}={value!r}" in repr(model["rnn"])


@pytest.mark.parametrize(
    ("label", "layer", "message"),
    [
        ("gating(GRU)", nn.RNN(3, 5), "build it with nn.GRU in place of nn.RNN"),
        ("gating(LSTM)", nn.RNN(3, 5), "build it with gr.nn.OneStateLSTM"),
        ("residual()", nn.LSTM(3, 5), "argument 'model': .*residual=True"),
        ("skip(lag=2)", nn.Linear(3, 5), "argument 'model': "),
    ],
)
def test_built_model_that_cannot_be_treated_is_refused(
    label: str, layer: nn.Module, message: str
) -> None:
    with pytest.raises(TreatmentError, match=message):
        treatment_from(label).apply(nn.Sequential(layer))


@pytest.mark.parametrize(
    ("label", "code"),
    [
        ("gating(GRU)", "Write nn.GRU(…) for nn.RNN(…), without `nonlinearity`."),
        ("activation(relu)", 'Write nn.RNN(…, nonlinearity="relu") for nn.RNN(…).'),
        ("residual(epsilon=0.01)",
         "Write gr.nn.RNN(…, residual=gr.nn.EulerStep(epsilon=0.01, antisymmetric=True, "
         "gamma=0.01)) for nn.RNN(…), with `import gradreach as gr`."),
        ("activation(relu) + initialization(identity) + clipping(norm=1.0)",
         'Write gr.nn.RNN(…, nonlinearity="relu", init="identity") for nn.RNN(…), with '
         "`import gradreach as gr`."),
        ("gating(LSTM) + initialization(chrono, max_lag=9)",
         'Write gr.nn.OneStateLSTM(…, forget_bias="chrono", max_lag=9) for nn.RNN(…); '),
    ],
)  # fmt: skip
def test_description_says_what_to_write(label: str, code: str) -> None:
    assert code in treatment_from(label).describe()


def test_public_names_are_reached_through_the_package() -> None:
    assert gr.treatments.Gating("GRU") == treatment_from("gating(GRU)")
    assert gr.treatments.treatment_from(gr.treatments.Skip(lag=4)) == Skip(lag=4)


OPTIONS: list[dict[str, Any]] = [
    {"num_layers": 2, "dropout": 0.5},
    {"bidirectional": True, "batch_first": True},
    {"bias": False, "dtype": torch.float64},
]
EVERY = [
    *[("RNN", label) for label in (
        "gating(GRU)", "gating(LSTM)", "activation(relu)", "activation(modrelu)", "residual()",
        "residual(learned)", "residual(epsilon=0.01)", "skip(lag=3)", "initialization(identity)",
        "initialization(np-rnn)", "initialization(orthogonal)",
    )],
    *[(kind, label) for kind in ("GRU", "LSTM") for label in (
        "initialization(orthogonal)", "initialization(chrono, max_lag=9)", "skip(lag=3)",
        "initialization(forget_bias=1.0)",
    )],
    ("GRU", "gating(LSTM)"),
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("kind", "label"), EVERY)
def test_treated_layer_takes_torchs_arguments_and_calls(
    kind: str, label: str, options: dict[str, Any]
) -> None:
    plain = getattr(nn, kind)(3, 5, **options)
    with treat(label):
        layer = getattr(nn, kind)(3, 5, **options)
    batch_first, dtype = options.get("batch_first", False), options.get("dtype", torch.float32)
    x = torch.randn(7, 4, 3, dtype=dtype)
    lengths = torch.tensor([4, 1, 2, 3, 4, 2, 1]) if batch_first else torch.full((4,), 7)
    packed = pack_padded_sequence(x, lengths, batch_first=batch_first, enforce_sorted=False)

    assert {each.dtype for each in layer.parameters()} == {dtype}
    for given in (x, x[0], packed):
        output, state = layer(given)
        expected, expected_state = plain(given)
        again, _ = layer(given, state)
        assert type(output) is type(expected) is type(again)
        if given is not packed:
            assert output.shape == expected.shape
        one = state[0] if kind == "LSTM" else state
        assert one.shape == (expected_state[0] if kind == "LSTM" else expected_state).shape


def test_layer_among_others_that_cannot_take_a_remedy_is_left() -> None:
    with treat("skip(lag=3) + initialization(chrono, max_lag=9)"):
        model = nn.ModuleList(
            [nn.LSTM(3, 5, proj_size=2), nn.LSTM(3, 5, bias=False), nn.GRU(3, 5), nn.GRUCell(3, 5)]
        )

    assert [str(each).partition("5, ")[2].rstrip(")") for each in model] == [
        "proj_size=2, forget_bias='chrono', max_lag=9", "bias=False, skip=3",
        "skip=3, forget_bias='chrono', max_lag=9", "forget_bias='chrono', max_lag=9",
    ]  # fmt: skip


STATEFUL = """
import torch
from torch import nn


def repackage(h):
    return h.detach() if isinstance(h, torch.Tensor) else tuple(repackage(v) for v in h)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Embedding(11, 4)
        self.rnn = {line}
        self.decoder = nn.Linear({width}, 11)

    def forward(self, tokens, state):
        output, state = self.rnn(self.encoder(tokens), state)
        return self.decoder(output), state

    def start(self, batch):
        return {start}


model = Model()
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
tokens = torch.randint(11, (60, 6))
state, losses = model.start(6), []
for _ in range(3):
    for i in range(0, 50, 10):
        state = repackage(state)
        {mask}
        output, state = model(tokens[i : i + 10], state)
        loss = nn.functional.cross_entropy(
            output.flatten(0, 1), tokens[i + 1 : i + 11].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        losses.append(loss.item())


def weights():
    return list(model.parameters()) + [torch.tensor(losses)]
"""
ONE = "torch.zeros({layers}, batch, 5)"
MASK = "keep = (torch.arange(6) > 0).float()[:, None]; state = "


@pytest.fixture
def float64() -> Iterator[None]:
    """In which two kernels for one layer differ by rounding that 15 steps cannot make large."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("options", "layers", "width"),
    [("", 1, 5), (", num_layers=2", 2, 5), (", bidirectional=True", 2, 10)],
)
@pytest.mark.parametrize("kind", ["RNN", "GRU"])
def test_script_that_carries_and_detaches_its_state_trains_an_lstm(
    tmp_path: Path, kind: str, options: str, layers: int, width: int, masked: bool
) -> None:
    start = ONE.replace("{layers}", str(layers))
    one = STATEFUL.replace("{line}", f"nn.{kind}(4, 5{options})").replace("{start}", start)
    two = STATEFUL.replace("{line}", f"nn.LSTM(4, 5{options})").replace(
        "{start}", f"({start}, {start})"
    )
    one = one.replace("{mask}", f"{MASK}state * keep" if masked else "pass")
    two = two.replace("{mask}", f"{MASK}tuple(s * keep for s in state)" if masked else "pass")
    script, by_hand = tmp_path / "train.py", tmp_path / "by_hand.py"
    script.write_text(one.replace("{width}", str(width)))
    by_hand.write_text(two.replace("{width}", str(width)))

    with Interception() as intercepted:
        Gating("LSTM").install(intercepted)
        treated = run(script)

    for mine, expected in zip(treated, run(by_hand), strict=True):
        assert_close(mine, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "label",
    [
        "gating(LSTM) + truncation(windows=2)",
        "gating(LSTM) + truncation(steps=5)",
        "skip(lag=3) + truncation(steps=5)",
        "activation(relu) + initialization(identity) + clipping(norm=1.0)",
        "gating(GRU) + initialization(chrono, max_lag=20) + clipping(norm=1.0)"
        " + learning_rate(warm_up=10)",
        "gating(LSTM) + truncation(windows=2) + clipping(percentile=10.0)",
    ],
)
def test_treatments_of_layers_and_steps_together_are_patched_to_the_same_bits(
    tmp_path: Path, label: str
) -> None:
    text = STATEFUL.replace("{line}", "nn.RNN(4, 5)").replace("{mask}", "pass")
    text = text.replace("{start}", ONE.replace("{layers}", "1")).replace("{width}", "5")

    trial, patched, _ = treated_and_patched(tmp_path, text, label)

    assert_same_bits(trial, patched)
