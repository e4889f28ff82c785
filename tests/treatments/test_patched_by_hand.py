"""A script treated by interception ends with the bits of the script patched and run by hand."""

from __future__ import annotations

import pytest
import torch
from tests.treatments.step_scripts import SCRIPTS
from tests.treatments.trials import assert_same_bits, run, treated_and_patched

from gradreach.treatments import Interception
from gradreach.treatments.places import note_places

LABELS = (
    "clipping(norm=0.05)",
    "clipping(value=0.01)",
    "clipping(ratio=0.01)",
    "clipping(percentile=10.0)",
    "learning_rate(factor=0.1)",
    "learning_rate(factor=3.0)",
    "learning_rate(factor=0.1, each_step=True)",
    "learning_rate(warm_up=4)",
    "learning_rate(cosine=5)",
    "learning_rate(plateau=1)",
    "learning_rate(finder=10)",
    "truncation(steps=3)",
    "truncation(undo=True)",
    "truncation(detach=True)",
    "truncation(windows=2)",
    "regularization(omega=2.0)",
    "gating(GRU) + clipping(norm=0.05)",
    "initialization(orthogonal) + learning_rate(factor=0.1) + learning_rate(warm_up=3)",
    "activation(leaky_relu) + truncation(steps=3) + clipping(norm=0.1) + learning_rate(factor=0.1)",
)


FEW = (
    "clipping(norm=0.05)",
    "activation(leaky_relu) + truncation(steps=3) + clipping(norm=0.1) + learning_rate(factor=0.1)",
)
PAIRS = [(name, label) for name in SCRIPTS for label in FEW]
PAIRS += [(name, label) for name in ("plain", "stateful") for label in LABELS if label not in FEW]
NOTHING = {  # nothing to be done there, and nothing done
    ("plain", "truncation(undo=True)"), ("stateful", "truncation(undo=True)"),
    ("plain", "truncation(detach=True)"), ("stateful", "truncation(detach=True)"),
    ("stateful", "regularization(omega=2.0)"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "label"), PAIRS)
def test_patched_script_ends_with_the_bits_of_the_trial(tmp_path, name, label):
    plain = tmp_path / "plain.py"
    plain.write_text(SCRIPTS[name])

    trial, patched, _ = treated_and_patched(tmp_path, SCRIPTS[name], label)

    assert_same_bits(trial, patched)
    untreated = run(plain)
    same = [a.shape == b.shape and torch.equal(a, b) for a, b in zip(trial, untreated, strict=True)]
    assert all(same) == ((name, label) in NOTHING)


@pytest.mark.slow
@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("name", list(SCRIPTS))
def test_every_script_patched_for_every_treatment_ends_with_the_bits_of_the_trial(
    tmp_path, name, label
):
    trial, patched, _ = treated_and_patched(tmp_path, SCRIPTS[name], label)

    assert_same_bits(trial, patched)


WRITTEN = {
    ("plain", "clipping(norm=0.5)"): (
        "    nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in "
        'group["params"]], 0.5)\n    optimizer.step()\n'
    ),
    ("plain", "learning_rate(factor=0.1)"): "optimizer = torch.optim.SGD(params, lr=0.07 / 10)\n",
    ("own-clip", "learning_rate(factor=0.1)"): "torch.optim.Adam(params, lr=0.0001)\n",
    ("trainer", "learning_rate(factor=3.0)"): "lr=(rate * 2) * 3.0,  # the usual\n",
    ("scaled", "clipping(norm=0.5)"): "    scaler.unscale_(opt)\n    nn.utils.clip_grad_norm_(",
    ("plain", "learning_rate(warm_up=4)"): (
        "optimizer = torch.optim.SGD(params, lr=0.07)\n"
        "schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: "
        "min(1.0, (step + 1) / 4))\n"
        "optimizer.register_step_post_hook(lambda *_, its=schedule: its.step())\n"
    ),
    ("one-liners", "clipping(norm=0.5)"): (
        "step = lambda: (nn.utils.clip_grad_norm_([p for group in opt.param_groups for p in "
        'group["params"]], 0.5), opt.step())[-1]\n'
    ),
    ("closure", "clipping(norm=0.5)"): (
        "\tdef treated_closure(closure=closure):\n\t\tloss = closure()\n\t\tnn.utils."
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "label"), list(WRITTEN))
def test_patch_is_plain_torch_where_plain_torch_says_the_same(tmp_path, name, label):
    _, _, text = treated_and_patched(tmp_path, SCRIPTS[name], label)

    assert WRITTEN[name, label] in text
    assert "gradreach" not in text


def test_script_s_own_clipping_is_taken_out_of_the_patched_one(tmp_path):
    _, _, text = treated_and_patched(tmp_path, SCRIPTS["own-clip"], "clipping(norm=0.5)")

    assert 'norm = nn.utils.clip_grad_norm_(params, max_norm=float("inf"))  # too early\n' in text
    assert "clip_grad_value_" not in text


def test_script_that_unscales_itself_is_not_made_to_unscale_twice(tmp_path):
    _, _, text = treated_and_patched(tmp_path, SCRIPTS["scaled-unscaled"], "clipping(norm=0.5)")

    assert text.count("unscale_") == 1


def test_steps_that_no_line_shows_are_treated_where_the_optimizers_are_built(tmp_path):
    _, _, text = treated_and_patched(tmp_path, SCRIPTS["passed-on"], "clipping(norm=0.5)")

    assert text.count('gr.treatments.treated(torch.optim.SGD, "clipping(norm=0.5)")(') == 1
    assert text.count('gr.treatments.treated(torch.optim.Adam, "clipping(norm=0.5)")(') == 1
    assert text.count("import gradreach as gr\n") == 1


@pytest.mark.parametrize("name", list(SCRIPTS))
def test_noting_the_places_changes_nothing(tmp_path, name):
    script = tmp_path / "train.py"
    script.write_text(SCRIPTS[name])
    plain = run(script)

    with Interception() as intercepted:
        note_places(intercepted)
        noted = run(script)

    assert_same_bits(noted, plain)
    kinds = {site.kind for site in intercepted.sites}
    assert {"layer", "optimizer", "update", "script"} <= kinds
    assert ("clip" in kinds) == ("clip_grad" in SCRIPTS[name])
    assert ("own-rates" in kinds) == (name == "groups")
    assert ("rate-set" in kinds) == (name in ("groups", "trainer"))
