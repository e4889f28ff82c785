"""Scripts that build their layers in every way there is: treated, and patched by a program."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.treatments.trials import assert_same_bits, run, treated_and_patched

from gradreach.treatments import Interception, Site, TreatmentError, treatment_from
from gradreach.treatments.edit import Edit, edited
from gradreach.treatments.source_file import NoLineError

TRAIN = """

head = torch.nn.Linear(5, 1)
optimizer = torch.optim.SGD([*layer.parameters(), *head.parameters()], lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    head(layer(torch.randn(6, 4, 3))[0][-1]).pow(2).mean().backward()
    optimizer.step()


def weights():
    return [*layer.parameters(), *head.parameters()]
"""

# How the layer is built, the treatment, what the patched line must hold.
DIRECT = [
    ("import torch\nlayer = torch.nn.RNN(3, 5)", "gating(GRU)", "torch.nn.GRU(3, 5)"),
    ("import torch\nimport torch.nn as T\nlayer = T.RNN(3, 5)", "gating(GRU)", "T.GRU(3, 5)"),
    ("import torch\nfrom torch.nn import RNN\nlayer = RNN(3, 5)", "gating(GRU)",
     "torch.nn.GRU(3, 5)"),
    ("import torch\nfrom torch import nn\nlayer = nn.RNN(3, 5, 1, 'tanh', False)", "gating(GRU)",
     "nn.GRU(3, 5, 1, False)"),
    ("import torch\nfrom torch import nn\nlayer = nn.RNN(3, (5), nonlinearity='relu',)",
     "gating(GRU)", "nn.GRU(3, (5),)"),
    ("import torch\nfrom torch import nn\nlayer = nn.RNN(3, (5))  # )", "skip(lag=2)",
     "gr.nn.RNN(3, (5), skip=2)  # )"),
    ("import torch\nfrom torch import nn\nlayer = nn.RNN(\n    3,\n    5,  # units\n)",
     "initialization(orthogonal)",
     'gr.nn.RNN(\n    3,\n    5, init="orthogonal",  # units\n)'),
    ("import torch\nfrom torch import nn\nkw = {'bias': False}\nlayer = nn.RNN(*(3, 5), **kw)",
     "residual(learned)", 'gr.nn.RNN(*(3, 5), **kw, residual="learned")'),
    ("import torch\ngr = 3\nlayer = torch.nn.RNN(3, 5)", "residual()",
     "gradreach.nn.RNN(3, 5, residual=True)"),
    ("'''Text.'''\nfrom __future__ import annotations\nimport torch\nlayer = torch.nn.GRU(3, 5)",
     "gating(LSTM) + initialization(chrono, max_lag=6)",
     'gr.nn.OneStateLSTM(3, 5, forget_bias="chrono", max_lag=6)'),
    ("import torch\nfrom torch import nn\nü, layer = 'é', nn.RNN(3, 5, nonlinearity='relu')",
     "activation(tanh)", """'é', nn.RNN(3, 5, nonlinearity="tanh")"""),
    ("import torch\nfrom torch import nn\nlayer = nn.RNN(3, 5)", "residual(epsilon=0.01)",
     "residual=gr.nn.EulerStep(epsilon=0.01, antisymmetric=True, gamma=0.01))"),
]  # fmt: skip
WRAPPED = [
    "from torch import nn\nlayer = {'rnn': nn.RNN}['rnn'](3, 5)",
    "from torch import nn\nlayer = getattr(nn, 'RNN')(3, 5)",
    "from torch import nn\nlayer = nn.RNN(3, 5, **{'nonlinearity': 'relu'})",
    "from torch import nn\nkind = nn.RNN\nlayer = kind(3, 5)",
    "from torch import nn\nlayer = [kind(3, 5) for kind in (nn.LSTM, nn.RNN)][1]",
    "import functools as f\nfrom torch import nn\nlayer = f.partial(nn.RNN, 3)(hidden_size=5)",
    "from torch import nn\nlayer = list(map(nn.RNN, [3], [5]))[0]",
    "from torch.nn.modules.rnn import RNN\nlayer = RNN(3, 5)",
    "from torch import nn\nif True:\n    nn.RNN = nn.RNN\nlayer = (lambda c: c(3, 5))(nn.RNN)",
]


@pytest.mark.parametrize(("built", "label", "line"), DIRECT)
def test_call_that_the_file_decides_is_changed_itself(
    tmp_path: Path, built: str, label: str, line: str
) -> None:
    trial, patched, text = treated_and_patched(tmp_path, built + TRAIN, label)

    assert line in text
    assert_same_bits(trial, patched)


@pytest.mark.parametrize("built", WRAPPED)
def test_call_that_only_runs_tell_is_wrapped(tmp_path: Path, built: str) -> None:
    text = "import torch\n" + built + TRAIN
    script = tmp_path / "untreated.py"
    script.write_text(text)
    untreated = run(script)

    trial, patched, after = treated_and_patched(tmp_path, text, "gating(GRU)")

    assert "gr.treatments.treated(" in after
    assert_same_bits(trial, patched)
    assert len(trial) != len(untreated) or trial[0].shape != untreated[0].shape


def test_layer_that_a_library_builds_is_treated_at_the_users_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "site-packages"
    library.mkdir()
    (library / "somebodys_models.py").write_text(
        "from torch import nn\ndef make(kind):\n    return getattr(nn, kind)(3, 5)\n"
    )
    monkeypatch.syspath_prepend(str(library))
    text = "import torch\nimport somebodys_models as m\nlayer = m.make('RNN')" + TRAIN

    trial, patched, after = treated_and_patched(tmp_path, text, "gating(GRU)")

    assert "layer = gr.treatments.treated(m.make, \"gating(GRU)\")('RNN')" in after
    assert_same_bits(trial, patched)


def test_layer_built_where_no_call_stands_is_treated_from_the_top(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "built_at_import.py").write_text(
        "from torch import nn\nlayer = nn.RNN(3, 5)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site-packages"))
    text = "import torch\nif True:\n    from built_at_import import layer" + TRAIN
    script = tmp_path / "train.py"
    script.write_text(text)
    treatment = treatment_from("gating(GRU)")

    with Interception() as intercepted:
        treatment.install(intercepted)
        run(script)

    after = edited(text, treatment.edits(intercepted.sites))
    assert 'import torch\ngr.treatments.treat("gating(GRU)")\nif True:' in after


def test_layer_of_nobodys_file_has_no_line() -> None:
    site = Site(
        "layer", "torch.nn.RNN", "", 0, 0, 0, 0, "", numbers={"input_size": 2, "hidden_size": 3}
    )

    with pytest.raises(NoLineError, match="there is no script at whose top"):
        treatment_from("gating(GRU)").edits([site])


def test_class_used_in_several_places_is_changed_in_each(tmp_path: Path) -> None:
    text = (
        "import torch\nfrom torch import nn\n"
        "first, layer = nn.RNN(3, 5), nn.RNN(3, 5); other = nn.LSTM(3, 5)" + TRAIN
    )

    trial, patched, after = treated_and_patched(tmp_path, text, "gating(GRU)")

    assert "first, layer = nn.GRU(3, 5), nn.GRU(3, 5); other = nn.LSTM(3, 5)" in after
    assert_same_bits(trial, patched)


def test_edits_that_overlap_are_refused() -> None:
    with pytest.raises(ValueError, match="overlaps another edit or lies outside the text"):
        edited("abc", [Edit("a", 1, 0, 1, 2, "x"), Edit("a", 1, 1, 1, 3, "y")])


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("gating(SRU)", "argument 'cell' must be 'GRU' or 'LSTM', got 'SRU'"),
        ("gating", "gating\\(GRU\\)|GRU"),
        ("nonsense(1)", "there is no family 'nonsense'"),
        ("skip(lag=1)", "'lag' must be 2 steps or more, got 1"),
        ("skip(lag=2, weight='heavy')", "must be a number or 'learned', got 'heavy'"),
        ("activation(swoosh)", "swoosh"),
        ("initialization(zeros)", "'name' must be one of orthogonal, identity, np-rnn"),
        ("initialization(np-rnn, scale=2.0)", "'scale' must be a factor between 0 and 10"),
        ("initialization(chrono, max_lag=1)", "'max_lag' must be a number from 2 up, got 1"),
        ("initialization(chrono)", "'max_lag' must be a number from 2 up, got 0"),
        ("residual(alpha=0.0)", "'alpha' must be a number above 0, got 0.0"),
        ("residual(epsilon=-1.0)", "expected a number above 0"),
        ("gating(__import__('os'))", "takes|no treatment's label"),
        ("gating(", "is no treatment's label"),
    ],
)
def test_label_of_no_treatment_is_refused_with_the_reason(label: str, message: str) -> None:
    if label == "gating":
        assert treatment_from(label).label == "gating(GRU)"
        return
    with pytest.raises(TreatmentError, match=message):
        treatment_from(label)


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        ("gating(GRU)", "gating(LSTM)", "both change the kind of recurrence"),
        ("gating(GRU)", "residual()", "is about a plain RNN, which gating\\(GRU\\) replaces"),
        ("activation(relu)", "gating(LSTM)", "is about a plain RNN"),
        ("gating(GRU)", "initialization(identity)", "is about a plain RNN"),
        (
            "initialization(identity)",
            "initialization(orthogonal)",
            "both change the initialization",
        ),
        ("residual()", "residual(learned)", "both change the residual"),
    ],
)
def test_treatments_that_exclude_each_other_are_not_combined(
    one: str, other: str, why: str
) -> None:
    for label in (f"{one} + {other}", f"{other} + {one}"):
        with pytest.raises(TreatmentError, match=f"conflict, as .*{why}.*; leave out one"):
            treatment_from(label)


def test_treatments_that_go_together_act_in_their_order_whatever_order_they_came_in() -> None:
    labels = ["initialization(orthogonal)", "initialization(chrono, max_lag=9)", "gating(GRU)"]

    combined = treatment_from(" + ".join(labels))

    assert combined.label == " + ".join([labels[2], *labels[:2]])
    assert treatment_from(combined.to_dict()) == combined
