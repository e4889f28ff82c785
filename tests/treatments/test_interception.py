"""What passes between a script and torch, and that it passes unharmed."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import RNN as BEFORE

from gradreach import nn as own
from gradreach.treatments import Interception, Site, treat, treated
from gradreach.treatments.layer_call import TORCH_CLASSES, LayerCall


def to_gru(call: LayerCall) -> LayerCall | None:
    return call.becoming("gru") if call.kind == "rnn" else None


def test_class_imported_before_or_after_the_start_is_the_same_class_treated() -> None:
    with Interception() as run:
        run.on_layer(to_gru)
        from torch.nn import RNN as AFTER

        layers = [BEFORE(2, 3), AFTER(2, 3), nn.RNN(2, 3), torch.nn.modules.rnn.RNN(2, 3)]

    assert {type(layer) for layer in layers} == {nn.GRU}
    assert all(isinstance(layer, nn.GRU) for layer in layers)
    assert AFTER is BEFORE


def test_numbers_drawn_are_those_of_the_class_that_is_built() -> None:
    with Interception() as run:
        run.on_layer(to_gru)
        torch.manual_seed(3)
        treated_layer, after = nn.RNN(2, 3, batch_first=True), torch.rand(1)
    torch.manual_seed(3)
    plain, after_plain = nn.GRU(2, 3, batch_first=True), torch.rand(1)

    assert torch.equal(treated_layer.weight_hh_l0, plain.weight_hh_l0)
    assert torch.equal(after, after_plain)
    assert treated_layer.batch_first


@pytest.mark.parametrize("kind", TORCH_CLASSES, ids=lambda kind: kind.__name__)
def test_construction_that_nothing_rewrites_is_torchs_own(kind: type) -> None:
    torch.manual_seed(3)
    expected = kind(2, 3)

    with Interception():
        torch.manual_seed(3)
        found = kind(2, 3)

    assert type(found) is kind
    for one, other in zip(found.parameters(), expected.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    "call", [lambda: nn.RNN(), lambda: nn.RNN(2, 3, what=1), lambda: nn.LSTM(2, hidden_size="x")]
)
def test_construction_that_torch_refuses_is_refused_in_its_own_words(call: Any) -> None:
    with pytest.raises(TypeError) as expected:
        call()

    with treat("gating(GRU)"), pytest.raises(TypeError) as found:
        call()

    assert str(found.value) == str(expected.value)


def test_subclass_runs_its_own_code_and_is_reported_where_it_is_called() -> None:
    class Mine(nn.RNN):
        def __init__(self, size: int) -> None:
            super().__init__(2, size)

    with Interception() as run:
        run.on_layer(to_gru)
        layer = Mine(3)

    (site,) = run.sites
    assert type(layer) is Mine
    assert isinstance(layer, nn.RNN)
    assert "whose own code would be lost" in site.left
    assert site.function == "test_subclass_runs_its_own_code_and_is_reported_where_it_is_called"
    assert site.numbers["hidden_size"] == 3


def test_gradreachs_own_layer_is_left_and_its_machinery_not_seen() -> None:
    model = nn.Sequential(nn.RNN(2, 3))

    with Interception() as run:
        run.on_layer(to_gru)
        mine = own.GRU(2, 3, forget_bias=1.0)
        own.convert(model)  # builds layers of torch's classes to compare with

    assert type(mine) is own.GRU
    assert [site.left.partition(":")[0] for site in run.sites] == [
        "gradreach.nn.gru.GRU has the remedies built in"
    ]


def test_treated_model_can_be_copied_saved_and_loaded() -> None:
    with treat("gating(LSTM)"):
        model = nn.ModuleDict({"rnn": nn.RNN(2, 3)})

    twin = copy.deepcopy(model)
    twin.load_state_dict(model.state_dict())

    x = torch.randn(4, 2, 2)
    assert torch.equal(twin["rnn"](x)[0], model["rnn"](x)[0])
    assert type(twin["rnn"]) is own.OneStateLSTM


@pytest.mark.parametrize("closure", [False, True])
def test_before_step_acts_on_the_gradient_that_the_step_uses(closure: bool) -> None:
    weight = torch.ones(1, requires_grad=True)
    calls: list[float] = []

    def halve(optimizer: torch.optim.Optimizer) -> None:
        calls.append(weight.grad.item())
        weight.grad.mul_(0.5)

    with Interception() as run:
        run.before_step(halve)
        optimizer = torch.optim.SGD([weight], lr=1.0)

        def passed() -> Tensor:
            optimizer.zero_grad()
            loss = (3 * weight).sum()
            loss.backward()
            return loss

        if closure:
            optimizer.step(passed)
        else:
            passed()
            optimizer.step()

    assert calls == [3.0]
    assert weight.item() == -0.5


def test_before_step_acts_at_each_call_of_a_closure_and_once_for_a_parents_step() -> None:
    class Mine(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    weight = torch.ones(1, requires_grad=True)
    calls: list[int] = []
    with Interception() as run:
        run.before_step(lambda optimizer: calls.append(1))
        inherited, line_search = Mine([weight], lr=0.1), torch.optim.LBFGS([weight], max_iter=3)
        (weight**2).sum().backward()
        inherited.step()
        assert len(calls) == 1

        def passed() -> Tensor:
            line_search.zero_grad()
            loss = (weight**4).sum()
            loss.backward()
            return loss

        evaluations = len(calls)
        line_search.step(passed)

    assert len(calls) - evaluations > 1


def test_nothing_acts_after_the_end_where_somebody_wrapped_it_in_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Mine(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    calls: list[int] = []
    with Interception() as run:
        run.before_step(lambda optimizer: calls.append(1))
        optimizer = Mine([torch.ones(1, requires_grad=True)], lr=0.1)
        monkeypatch.setattr(Mine, "step", torch.compiler.disable(Mine.step))
        optimizer.step()
    optimizer.step()

    assert len(calls) == 1


def test_before_step_sees_unscaled_gradients_and_skipped_steps_are_none() -> None:
    weight = torch.ones(1, requires_grad=True)
    seen: list[float] = []
    with Interception() as run:
        run.before_step(lambda optimizer: seen.append(weight.grad.item()))
        optimizer = torch.optim.SGD([weight], lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        for factor in (3.0, float("inf"), 2.0):
            optimizer.zero_grad()
            scaler.scale((factor * weight).sum()).backward()
            scaler.step(optimizer)
            scaler.update()

    assert seen == [3.0, 2.0]


def test_around_step_may_leave_the_step_out() -> None:
    weight = torch.ones(1, requires_grad=True)
    with Interception() as run:
        run.around_step(lambda optimizer, step: None)
        optimizer = torch.optim.SGD([weight], lr=1.0)
        weight.sum().backward()
        optimizer.step()

    assert weight.item() == 1.0
    optimizer.step()
    assert weight.item() == 0.0


def test_backward_may_be_given_another_loss() -> None:
    weight = torch.ones(1, requires_grad=True)
    with Interception() as run:
        run.on_backward(lambda loss: loss + (5 * weight).sum())
        weight.sum().backward()

    assert weight.grad.item() == 6.0


def test_detach_is_asked_about_in_the_users_code_only() -> None:
    asked: list[Site] = []

    def keep(tensor: Tensor, site: Site) -> bool:
        asked.append(site)
        return True

    weight = torch.ones(1, requires_grad=True)
    with Interception() as run:
        run.on_detach(keep)
        h = 2 * weight
        kept = [h.detach(), torch.detach(h), h.data, h.clone().detach_()]
        kept_not = [weight.detach(), weight.data]  # a leaf has nothing to be cut from
        torch.nn.utils.clip_grad_norm_([weight], 1.0)

    assert all(each.grad_fn is not None for each in kept)
    assert not any(each.requires_grad for each in kept_not)
    assert [site.what.rpartition(".")[2] for site in asked] == [
        "detach", "detach", "data", "detach_",
    ]  # fmt: skip
    assert h.detach().grad_fn is None
    assert "data" not in vars(Tensor)


def test_site_is_the_span_of_the_call() -> None:
    with Interception() as run:
        nn.RNN(
            2,
            3,
        )

    (site,) = run.sites
    lines = Path(site.file).read_text(encoding="utf-8").splitlines()
    text = "\n".join(lines[site.line - 1 : site.end_line])
    assert text.strip() == "nn.RNN(\n            2,\n            3,\n        )"
    assert site.outer is None
    assert Site.from_dict(site.to_dict()) == site


def test_site_in_a_library_has_the_users_own_expression_as_its_outer() -> None:
    import unittest.mock  # a library that calls what it is given

    with Interception() as run:
        unittest.mock.Mock(side_effect=lambda: nn.RNN(2, 3))()
        map_of = list(map(nn.GRU, [2], [3]))

    inner, mapped = run.sites
    assert map_of
    assert inner.outer is None
    assert mapped.line == inner.line + 1


def test_wrapped_callee_treats_what_it_builds_and_nothing_else() -> None:
    def factory(kind: type, **options: Any) -> nn.Module:
        return nn.Sequential(kind(2, 3, **options))

    layer = treated(factory, "gating(GRU)")(nn.RNN, batch_first=True)[0]

    assert type(layer) is nn.GRU
    assert layer.batch_first
    assert type(nn.RNN(2, 3)) is nn.RNN


def test_two_interceptions_within_each_other_both_act_and_go() -> None:
    constructor = nn.RNN.__init__

    with treat("gating(GRU)"), treat("initialization(orthogonal)"):
        layer = nn.RNN(2, 3)
        assert type(layer) is own.RNN  # the inner one built gradreach's layer, which is left
    assert nn.RNN.__init__ is constructor
