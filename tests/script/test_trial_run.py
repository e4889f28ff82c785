"""Runs real scripts in fresh processes: what a trial of a script says."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradreach.treatments.families import treatment_from
from gradreach.trials.local import LocalPool
from gradreach.trials.metric import Metric
from gradreach.trials.spec import TrialSpec
from gradreach.trials.study import Study
from gradreach.trials.target import ScriptTarget

MODEL = """
import torch
from torch import nn
from torch.nn import functional as F
rnn, head = nn.RNN(2, 8, batch_first=True), nn.Linear(8, 1)
weights = [*rnn.parameters(), *head.parameters()]
"""

FRESH = (
    MODEL
    + """
optimizer = torch.optim.SGD(weights, lr=0.05)
for step in range(40):
    x = torch.randn(16, 12, 2)
    loss = F.mse_loss(head(rnn(x)[0][:, -1]), x[:, -1, :1])
    optimizer.zero_grad(); loss.backward(); optimizer.step()
    print(f"step {step} loss {loss.item():.10f}")
"""
)

FIXED = (
    MODEL
    + """
torch.manual_seed(7)
x, y = torch.randn(20, 12, 2), torch.randn(20, 1)
held, answers = torch.randn(20, 12, 2), torch.randn(20, 1)
optimizer = torch.optim.SGD(weights, lr=0.05)
for step in range(20):
    loss = F.mse_loss(head(rnn(x)[0][:, -1]), y)
    optimizer.zero_grad(); loss.backward(); optimizer.step()
with torch.no_grad():
    F.mse_loss(head(rnn(x)[0][:, -1]), y)
    {evaluation}
print("first weight", rnn.weight_ih_l0[0, 0].item())
"""
)


@pytest.fixture(scope="module")
def pool():
    with LocalPool(1, threads=1) as started:
        yield started


@pytest.fixture
def trial_of(tmp_path, pool):
    def run(
        source: str, *, printed: bool = False, arguments=(), treatment=None, metric=None, **rest
    ):
        (tmp_path / "train.py").write_text(source)
        target = ScriptTarget(path="train.py", args=tuple(arguments), cwd=str(tmp_path))
        treated = None if treatment is None else treatment_from(treatment)
        spec = TrialSpec(
            target=target,
            label="control" if treated is None else treated.label,
            treatment=None if treated is None else treated.to_dict(),
            metric=metric or Metric(),
            **rest,
        )
        study = Study(tmp_path / f"study-{len(list(tmp_path.iterdir()))}", spec)
        pool.run([spec], study, lambda spec, trial: None)
        trial = study.result_of(spec)
        return (trial, study.log_of(spec).read_text()) if printed else trial

    return run


def losses(printed: str) -> list[float]:
    return [float(line.split()[-1]) for line in printed.splitlines() if "loss" in line]


def test_training_loss_is_the_mean_of_the_last_tenth_and_new_batches_count_as_held_out(trial_of):
    trial, printed = trial_of(FRESH, printed=True)

    assert trial.outcome == "finished" and trial.steps == 40
    assert trial.metric == pytest.approx(sum(losses(printed)[-4:]) / 4, rel=1e-8)
    assert trial.held_out and trial.meta["fresh"]
    assert list(trial.curve[:2]) == pytest.approx(losses(printed)[:2], rel=1e-8)


def test_budget_ends_the_script_after_so_many_steps(trial_of):
    trial, printed = trial_of(FRESH, printed=True, budget=10)

    assert (trial.steps, trial.budget, trial.outcome) == (10, 10, "finished")
    assert len(losses(printed)) == 9  # it was ended within the tenth step
    assert trial.metric == trial.curve[-1]


def test_training_on_the_same_rows_again_is_not_held_out(trial_of):
    trial = trial_of(FIXED.format(evaluation="pass"))

    assert not trial.held_out and not trial.meta["fresh"]
    # The evaluation on the rows trained on is not taken for a held-out one.
    assert trial.metric == trial.meta["training_loss"]


def test_loss_without_gradients_on_other_rows_is_the_held_out_metric(trial_of):
    evaluation = 'print("held", F.mse_loss(head(rnn(held)[0][:, -1]), answers).item())'
    trial, printed = trial_of(FIXED.format(evaluation=evaluation), printed=True)

    held = float(printed.split("held ")[1].split()[0])
    assert trial.held_out
    assert trial.metric == pytest.approx(held, rel=1e-6)


def test_script_that_fixes_its_seed_runs_as_it_is_first_and_differs_from_then_on(trial_of):
    source = FIXED.format(evaluation="pass")
    _, plain = trial_of("import torch; torch.manual_seed(0)\n" + source, printed=True)
    _, again = trial_of("import torch; torch.manual_seed(0)\n" + source, printed=True)
    shifted, other = trial_of("import torch; torch.manual_seed(0)\n" + source, printed=True, seed=1)

    assert plain == again != other
    assert "shifted" in shifted.meta["seeding"]


@pytest.mark.parametrize(
    ("source", "arguments", "said"),
    [
        ("import sys; print('seed', sys.argv[sys.argv.index('--seed') + 1])", [], "5"),
        ("import sys; print('seed', sys.argv[sys.argv.index('--seed') + 1])", ["--seed=3"], "8"),
        ("import os; print('seed', os.environ['GRADREACH_SEED'])", [], "5"),
    ],
)
def test_script_with_a_way_to_be_seeded_is_given_the_seed(trial_of, source, arguments, said):
    _, printed = trial_of(source + "\n" + FRESH, arguments=arguments, seed=5, printed=True)

    assert f"seed {said}\n" in printed


def test_metric_by_pattern_is_the_last_number_printed(trial_of):
    trial, printed = trial_of(
        FRESH, printed=True, metric=Metric(kind="regex", pattern=r"loss (\S+)")
    )

    assert trial.metric == losses(printed)[-1]
    assert len(trial.curve) == 40


def test_metric_by_log_is_the_last_number_of_that_name(trial_of):
    source = FRESH + "\nimport gradreach as gr\ngr.log(other=1.0)\ngr.log(score=torch.tensor(0.25))"
    trial = trial_of(source, metric=Metric(kind="log", pattern="score"))

    assert trial.metric == 0.25


def test_loss_under_a_scaler_is_that_without_the_factor(trial_of):
    source = FRESH.replace("loss.backward()", "scaler.scale(loss).backward()")
    source = source.replace("optimizer.step()", "scaler.step(optimizer); scaler.update()")
    source = "import torch; scaler = torch.amp.GradScaler('cpu', init_scale=1024.0)\n" + source
    trial, printed = trial_of(source, printed=True)

    assert trial.metric == pytest.approx(sum(losses(printed)[-4:]) / 4, rel=1e-6)


def test_treatment_changes_what_is_built_and_the_trial_says_so(trial_of):
    trial, printed = trial_of(FRESH + "\nprint(type(rnn).__name__)", printed=True,
                              treatment="gating(GRU)")  # fmt: skip

    assert printed.endswith("GRU\n")
    assert trial.treatment == "gating(GRU)" and trial.meta["facts"] is None


def test_control_brings_the_facts_that_treatments_are_chosen_by(trial_of):
    facts = trial_of(FRESH).meta["facts"]

    (layer,) = facts["layers"]
    assert (layer["kind"], layer["hidden_size"], layer["names"]) == ("rnn", 8, ["rnn.l0"])
    assert facts["optimizers"][0]["lr"] == 0.05 and facts["steps"] == 40
    assert Path(layer["site"]["file"]).name == "train.py"


@pytest.mark.parametrize(
    ("line", "outcome", "message"),
    [
        ("raise ValueError('no')", "crashed", "ValueError: no"),
        ("raise MemoryError('much')", "out-of-memory", "MemoryError"),
        ("(loss * float('nan')).backward()", "nonfinite", "no finite number"),
        ("import sys; sys.exit(4)", "crashed", "4"),
    ],
)
def test_every_end_of_a_script_is_an_outcome(trial_of, line, outcome, message):
    source = FRESH.replace("optimizer.step()\n", "optimizer.step()\n    if step == 38: break\n", 1)
    again = "\nloss = F.mse_loss(head(rnn(x)[0][:, -1]), x[:, -1, :1])\n"
    trial = trial_of(source + again + line)

    assert trial.outcome == outcome
    assert message in trial.message


CARRIED = (
    MODEL
    + """
optimizer, state = torch.optim.SGD(weights, lr=0.05), None
for step in range(20):
    out, state = rnn(torch.randn(16, 12, 2), state)
    loss = head(out[:, -1]).square().mean()
    optimizer.zero_grad(); loss.backward(); optimizer.step()
"""
)


def test_crash_of_a_state_carried_over_is_found_and_treated(trial_of):
    broken, whole = trial_of(CARRIED), trial_of(CARRIED, treatment="truncation(detach=True)")

    assert (broken.outcome, broken.codes[0]) == ("crashed", "growing-graph")
    assert (whole.outcome, whole.steps) == ("finished", 20)
    assert "growing-graph" not in whole.codes
