"""Every treatment through one suite: named, explained, proposed, installed and taken away again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from gradreach.records.finding import REMEDIES, Finding
from gradreach.treatments import (
    ALL,
    Interception,
    LayerFacts,
    OptimizerFacts,
    RunFacts,
    Site,
    Treatment,
)
from gradreach.treatments.combined import ORDER
from gradreach.treatments.families import treatment_from
from gradreach.treatments.joined_windows import JoinedWindows
from gradreach.treatments.layer_call import TORCH_CLASSES
from gradreach.treatments.regularization import Omega

CODES = (
    "vanishing-gradient", "exploding-gradient", "dead-units", "saturated-units", "closed-gate",
    "truncated-gradient", "growing-graph", "exploding-update", "learning-rate-too-high",
    "learning-rate-too-low", "oscillating-loss", "stagnated-training", "ineffective-clipping",
)  # fmt: skip
# Those that nothing proposes by itself, or only as a part of something else.
MORE = ("activation(relu)", "initialization(identity)", "residual(epsilon=0.01)", "gating(LSTM)")


# Whatever remedies a finding names, these go by its code and by what the run showed.
BY_CODE = (Omega, JoinedWindows)


def facts(kind: str = "rnn", **more: Any) -> RunFacts:
    layer = LayerFacts(kind=kind, hidden_size=8, steps=150, carried=True)
    return RunFacts(
        **{
            "layers": (layer,),
            "optimizers": (OptimizerFacts(kind="Adam", lr=1e-3),),
            "steps": 2000,
            "seconds": 5.0,
            "sequence_steps": 150,
            "detached": (Site("detach", "torch.Tensor.detach", "a.py", 3, 0, 3, 10, "f"),),
            "gradient_norms": {0.1: 0.2, 0.25: 0.4, 0.5: 1.0, 0.75: 3.0, 0.9: 9.0, 1.0: 400.0},
            **more,
        }
    )


def found(code: str = "vanishing-gradient", remedies: tuple[str, ...] = REMEDIES) -> Finding:
    return Finding(
        code=code, severity="warning", cause="measured", counter_check="undo it", layer="rnn.l0",
        numbers={"reach": 20, "factor_per_step": 1.2}, remedies=remedies,
    )  # fmt: skip


def proposed() -> Iterator[Treatment]:
    for kinds in ALL.values():
        for kind in kinds:
            for code in CODES:
                for layer in ("rnn", "gru", "lstm"):
                    yield from kind.candidates(found(code), facts(layer))


def every() -> list[Treatment]:
    given = [*proposed(), *map(treatment_from, MORE)]
    return list({each.label: each for each in given}.values())


treatments = pytest.mark.parametrize("treatment", every(), ids=str)


def classes_in(treatment: Treatment) -> set[type]:
    parts = getattr(treatment, "parts", (treatment,))
    return {type(part) for part in parts}


def test_every_remedy_that_a_finding_may_name_is_a_family_in_the_same_words() -> None:
    assert not set(REMEDIES) - ALL.keys()
    assert ALL.keys() - set(REMEDIES) <= {"regularization"}
    assert set(ORDER) >= ALL.keys()
    assert all(kind.family == family for family, kinds in ALL.items() for kind in kinds)


def test_every_treatment_is_proposed_by_something_or_listed_here() -> None:
    tried = {kind for each in every() for kind in classes_in(each)}

    assert not [kind.__name__ for kinds in ALL.values() for kind in kinds if kind not in tried]


@treatments
def test_treatment_says_what_it_is(treatment: Treatment) -> None:
    assert treatment.source
    assert treatment.side_effects[0].islower()
    assert not treatment.side_effects.endswith(".")
    assert len(treatment.describe()) > 20


@treatments
def test_label_and_plain_data_lead_back_to_the_treatment(treatment: Treatment) -> None:
    stored = json.loads(json.dumps(treatment.to_dict()))

    assert treatment_from(stored) == treatment
    assert treatment_from(treatment.label) == treatment
    assert treatment_from(treatment.label).label == treatment.label


@treatments
def test_treatment_applies_only_where_its_family_is_named(treatment: Treatment) -> None:
    others = tuple({*REMEDIES} - {part.family for part in getattr(treatment, "parts", [treatment])})

    code = "none" if type(treatment) in BY_CODE else "vanishing-gradient"

    assert not treatment.applies_to(found(code, others), facts())


@treatments
def test_treatment_without_anything_to_treat_refuses_with_a_reason(treatment: Treatment) -> None:
    reason = treatment.refuses(RunFacts())

    assert reason
    assert not treatment.applies_to(found(), RunFacts())


@pytest.mark.parametrize("layer", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("code", CODES)
def test_candidates_are_distinct_and_fit_what_is_there(code: str, layer: str) -> None:
    for kinds in ALL.values():
        for kind in kinds:
            candidates = list(kind.candidates(found(code), facts(layer)))

            assert len({each.label for each in candidates}) == len(candidates)
            assert all(each.applies_to(found(code), facts(layer)) for each in candidates)
            if kind not in BY_CODE:
                assert not list(kind.candidates(found(code, ()), facts(layer)))


@treatments
def test_taking_a_treatment_away_leaves_torch_as_it_was(treatment: Treatment) -> None:
    # Twice: what is told of backward for as long as a treated optimizer lives is told once for all
    # of them, from the first on; and torch itself wraps things when its first optimizer is built.
    build_treated(treatment)
    before = torchs_own()

    build_treated(treatment)

    assert torchs_own() == before


def build_treated(treatment: Treatment) -> None:
    with Interception() as run:
        treatment.install(run)
        model = nn.ModuleList([nn.RNN(2, 3), nn.LSTM(2, 3), nn.GRUCell(2, 3)])
        torch.optim.SGD(model.parameters(), lr=0.1)


def torchs_own() -> dict[str, Any]:
    """What treatments may replace, as it stands."""
    owners = [
        *TORCH_CLASSES, nn.Module, torch, torch.autograd, torch.Tensor, torch.optim.Optimizer,
        torch.optim.SGD, torch.optim.Adam, torch.nn.utils, torch.nn.utils.clip_grad,
        torch.optim.lr_scheduler.LRScheduler,
    ]  # fmt: skip
    return {
        f"{owner}.{name}": value
        for owner in owners
        for name, value in vars(owner).items()
        if callable(value) or isinstance(value, property)
    }


class Mine(nn.RNN):
    """A layer with code of its own."""

    def forward(self, *args: Any) -> Any:
        output, state = super().forward(*args)
        return 2 * output, state


@treatments
def test_layer_of_the_users_own_class_is_left_and_reported(treatment: Treatment) -> None:
    with Interception() as run:
        treatment.install(run)
        layer = Mine(2, 3)

    (site,) = [site for site in run.sites if site.kind == "layer"]
    assert type(layer) is Mine
    assert "Mine, whose own code would be lost" in site.left
