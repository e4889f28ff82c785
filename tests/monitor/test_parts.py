"""The parts of the watch, each by itself."""

from __future__ import annotations

import itertools
import linecache
import warnings
from functools import partial

import pytest
import torch
from torch import nn

from gradreach.flow.sources.recorder import Recorder
from gradreach.monitor.cadence import START_SECONDS, Cadence
from gradreach.monitor.carried import CarriedState, CarryWatch
from gradreach.monitor.guard import Guard
from gradreach.monitor.hidden_hooks import HiddenHooks
from gradreach.monitor.names import LiveNames
from gradreach.monitor.plain_defaults import plain_defaults

MODULES = torch.nn.modules.module


# ---- cadence


def sampled(cadence: Cadence, passes: int, *, every_pass: float, cost: float) -> list[int]:
    """Return which passes are sampled when a pass and a sample take so many seconds."""
    taken, elapsed, spent = [], 0.0, 0.0
    for number in range(passes):
        if cadence.due(number, spent, elapsed):
            taken.append(number)
            spent += cost
            elapsed += cost
            cadence.took(number, cost)
        elapsed += every_pass
    return taken


def test_cadence_takes_the_first_and_each_fiftieth_where_they_are_cheap() -> None:
    assert sampled(Cadence(), 160, every_pass=1.0, cost=0.1) == [0, 1, 2, 50, 100, 150]


@pytest.mark.parametrize(("every_pass", "cost"), [(0.01, 0.1), (0.1, 0.5), (1.0, 4.0), (1.0, 30.0)])
def test_cadence_keeps_within_its_share(every_pass: float, cost: float) -> None:
    passes = 5000

    taken = sampled(Cadence(), passes, every_pass=every_pass, cost=cost)

    spent = cost * len(taken)
    # One sample is taken in any case; where 5 % are less than the first ones, these are all.
    assert spent <= max(cost, START_SECONDS, 0.05 * (passes * every_pass + spent)) + 1e-9
    assert taken[0] == 0
    # After the first ones, never two within fifty passes (the third is the first to count from).
    assert all(b - a >= 48 for a, b in itertools.pairwise(taken) if b >= 3)


def test_cadence_that_is_asked_for_is_kept_whatever_it_costs() -> None:
    assert sampled(Cadence(4), 14, every_pass=0.001, cost=9.0) == [0, 1, 2, 4, 8, 12]


def test_cadence_refuses_less_than_one() -> None:
    with pytest.raises(ValueError, match=r"Cadence\(\): argument 'every' must be at least 1"):
        Cadence(0)


# ---- guard


def test_guard_counts_nested_work_once_and_lets_the_user_s_exceptions_pass() -> None:
    guard = Guard(lambda: None)
    before = guard.seconds

    guard(lambda: guard(sum, range(10**6)))
    once = guard.seconds
    with pytest.raises(KeyboardInterrupt):
        guard(_interrupt)

    assert 0 <= before < once
    assert guard.fault is None
    assert guard._since is None


def test_guard_survives_an_end_that_fails_too() -> None:
    guard = Guard(lambda: 1 / 0)

    guard(_raise)

    assert guard.fault is not None
    assert guard.fault.endswith("IndexError: a bug\n")


def _interrupt() -> None:
    raise KeyboardInterrupt


def _raise() -> None:
    raise IndexError("a bug")


# ---- names


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.rnn(x)[0]
        return result


def named(*calls: nn.Module) -> list[str]:
    names = LiveNames(Guard(lambda: None))
    names.start()
    try:
        for model in calls:
            model(torch.zeros(2, 1, 2))
        return [names[module] for module in names]
    finally:
        names.stop()


def test_names_are_paths_and_keep_models_apart() -> None:
    nested = nn.Sequential(nn.Sequential(nn.Linear(2, 2), Twice()))

    assert named(nested, Twice(), nn.GRU(2, 2)) == ["0.1.rnn", "rnn", "gru"]
    first, second = Twice(), Twice()
    assert named(first, second, first) == ["rnn", "Twice.rnn"]


def test_names_of_models_that_are_gone_are_not_given_again() -> None:
    names = LiveNames(Guard(lambda: None))
    names.start()
    seen = []
    for _ in range(3):
        model = Twice()
        model(torch.zeros(2, 1, 2))
        seen += [names[module] for module in names]
        del model
    names.stop()

    assert seen == ["rnn", "Twice.rnn", "Twice2.rnn"]


def test_names_find_what_was_added_later_and_survive_a_forward_that_raises() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    names = LiveNames(Guard(lambda: None))
    names.start()
    model(torch.zeros(2, 1, 2))
    with pytest.raises(RuntimeError):
        model(torch.zeros(2, 1, 7))
    model.append(nn.RNN(2, 2))
    model(torch.zeros(2, 1, 2))
    other = Twice()
    other(torch.zeros(2, 1, 2))
    found = [names[module] for module in names]
    names.stop()

    assert found == ["rnn", "Twice.rnn"]


# ---- states carried over


def carried(*, detached: bool, passes: int = 3, by: str = "plain") -> CarryWatch:
    """Run passes of a GRU that hands its state on; one `backward` each, the graph kept."""
    rnn, watch, state = nn.GRU(2, 3), CarryWatch(), None
    encoder = nn.Linear(3, 3)
    for step in range(passes):
        with Recorder({rnn: "rnn"}) as recorder:
            recorder.on_recorded = partial(watch.check, step=step)
            if state is not None:
                state = state.detach() if detached else state
                state = encoder(state) * 2 if by == "projected" else state
            for _ in range(2):  # within a pass the state is handed on as it should be
                out, state = rnn(torch.zeros(4, 1, 2), state)
        out.sum().backward(retain_graph=True)
        watch.remember(recorder.tails.all())
    return watch


@pytest.mark.parametrize("by", ["plain", "projected"])
def test_state_carried_over_is_found_with_its_line(by: str) -> None:
    watch = carried(detached=False, by=by)

    assert isinstance(watch.found, CarriedState)
    assert (watch.found.layer, watch.found.step, watch.in_a_row) == ("rnn", 1, 2)
    assert watch.found.file == __file__
    assert linecache.getline(__file__, watch.found.line).strip() == watch.found.source
    assert watch.found.source.startswith("out, state = rnn(")


@pytest.mark.parametrize("by", ["plain", "projected"])
def test_detached_state_is_not(by: str) -> None:
    assert carried(detached=True, by=by).found is None


# ---- what a script sees of us


def test_hooks_are_hidden_from_torch_s_question_and_no_others() -> None:
    own, hidden = MODULES._has_any_global_hook, HiddenHooks()
    ours = MODULES.register_module_forward_hook(lambda *_: None, always_call=True)
    hidden.start([ours])
    try:
        assert not MODULES._has_any_global_hook()
        theirs = MODULES.register_module_forward_pre_hook(lambda *_: None)
        assert MODULES._has_any_global_hook()
        theirs.remove()
    finally:
        hidden.stop()
        ours.remove()

    assert MODULES._has_any_global_hook is own


def test_analysis_runs_on_plain_defaults() -> None:
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16), plain_defaults():
            product = torch.zeros(2, 2) @ torch.zeros(2, 2)
        after = torch.zeros(1)
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)

    assert (product.dtype, product.device.type) == (torch.float32, "cpu")
    assert (after.dtype, after.device.type) == (torch.float64, "meta")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.zeros(1).dtype == torch.float32
