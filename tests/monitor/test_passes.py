"""The watch samples whole passes as they are, and leaves nothing behind."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import _global_optimizer_post_hooks
from torch.utils.checkpoint import checkpoint

from gradreach.flow.analyse import analyse
from gradreach.monitor import forks, recording
from gradreach.monitor.cadence import Cadence
from gradreach.monitor.passes import PassWatch, SampledPass

EXACT = 1e-5  # see tests/script/test_same_bits.py
MODULES = torch.nn.modules.module


class Seen:
    """What a watch reported; analysed at once, so that no call is kept."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.numbers: list[int] = []
        self.layers: list[list[str]] = []
        self.errors: list[float] = []
        self.losses: list[float | None] = []

    def take(self, sampled: SampledPass) -> None:
        layers, _ = analyse(sampled.calls, sampled.gradients, 0, seed=0)
        self.steps.append(sampled.step)
        self.numbers.append(sampled.number)
        self.layers.append(list(layers))
        self.errors.append(max(max(each.closure_error.values()) for each in layers.values()))
        references = {each for flow in layers.values() for each in flow.closure_reference.values()}
        assert references == {"backward"}
        self.losses.append(sampled.loss)


@contextmanager
def watching(
    every: int | None = 1, on_step: Callable[[int], None] | None = None
) -> Iterator[tuple[PassWatch, Seen]]:
    seen = Seen()
    watch = PassWatch(seen.take, Cadence(every), on_step)
    watch.start()
    try:
        yield watch, seen
    finally:
        watch.stop()
    assert watch.fault is None


def train(model: nn.Module, steps: int = 4, *, rate: float = 0.1) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(9, 2, 3))[0].square().mean().backward()
        optimizer.step()


def sentinel(tensor: Tensor) -> weakref.ref[object]:
    """Return a reference that dies with the graph node that made a tensor."""

    class Owned:
        pass

    owned = Owned()
    assert tensor.grad_fn is not None
    tensor.grad_fn.metadata["sentinel"] = owned  # type: ignore[index]
    return weakref.ref(owned)


def test_gradient_is_the_pass_s_own_whatever_becomes_of_it() -> None:
    rnn = nn.GRU(3, 5)
    with watching() as (_, seen):
        for _ in range(3):  # accumulated, clipped in place, scaled, thrown away
            rnn(torch.randn(9, 2, 3))[0].mean().backward()
            nn.utils.clip_grad_norm_(rnn.parameters(), 1e-6)
            for p in rnn.parameters():
                assert p.grad is not None
                p.grad.mul_(1e3)

    assert len(seen.errors) == 3
    assert max(seen.errors) <= EXACT


def test_every_kind_of_backward_is_seen_with_its_loss() -> None:
    rnn = nn.RNN(3, 5)
    weights = list(rnn.parameters())
    with watching() as (_, seen):
        losses = [rnn(torch.randn(4, 2, 3))[0].sum() for _ in range(2)]
        torch.autograd.backward(losses)
        rnn(torch.randn(4, 2, 3))[0].backward(torch.ones(4, 2, 5))
        torch.autograd.grad(rnn(torch.randn(4, 2, 3))[0].sum(), weights)
        last = rnn(torch.randn(4, 2, 3))[0].sum()
        last.backward()

    expected = [sum(losses).item(), None, None, last.item()]  # type: ignore[union-attr]
    assert seen.losses == pytest.approx(expected)
    assert max(seen.errors) <= EXACT


def test_pass_within_a_pass_is_part_of_it() -> None:
    """Reentrant checkpointing runs a backward of its own for each checkpointed stretch."""
    first, second = nn.LSTM(3, 5), nn.LSTM(5, 4)
    x = torch.randn(9, 2, 3, requires_grad=True)
    with watching() as (watch, seen):
        for _ in range(3):
            hidden = checkpoint(lambda v: first(v)[0], x, use_reentrant=True)
            checkpoint(lambda v: second(v)[0], hidden, use_reentrant=True).sum().backward()

    assert watch.passes == 3
    assert [sorted(each) for each in seen.layers] == [["LSTM.lstm.l0", "lstm.l0"]] * 3
    assert max(seen.errors) <= EXACT


@pytest.mark.parametrize("where", ["before", "behind"])
def test_backward_that_raises_is_forgotten(where: str) -> None:
    rnn, head = nn.RNN(3, 5), nn.Linear(3, 3)
    with watching() as (watch, seen):
        for step in range(4):
            x = head(torch.randn(6, 2, 3))
            out = rnn(x)[0]
            if step % 2:
                (out if where == "before" else x).register_hook(_fail)
                with pytest.raises(ZeroDivisionError):
                    out.sum().backward()
            else:
                out.sum().backward()

    assert (watch.passes, seen.numbers) == (2, [0, 1])
    assert max(seen.errors) <= EXACT


def _fail(gradient: Tensor) -> Tensor:
    return gradient / (1 // 0)


def test_layer_that_comes_later_is_sampled_from_its_first_steps() -> None:
    """… though the cadence of the first one is far from its next sample."""
    with watching(every=None) as (watch, seen):
        for _ in range(2):
            train(nn.RNN(3, 5), steps=8)

    # Its very first pass gives no sign; from the one after it on it is looked at.
    assert seen.layers == [["rnn.l0"]] * 3 + [["RNN.rnn.l0"]] * 3
    assert seen.numbers == [0, 1, 2, 8, 9, 10]
    assert watch.passes == 15


def test_passes_of_another_kind_of_network_do_not_bring_more_samples() -> None:
    rnn, other = nn.RNN(3, 5), nn.Linear(3, 1)
    with watching(every=50) as (watch, seen):
        for _ in range(40):
            rnn(torch.randn(4, 2, 3))[0].sum().backward()
            other(torch.randn(4, 3)).sum().backward()

    # After the first three: at the first, second, fourth … of the other's.
    assert seen.numbers == [0, 1, 2, 3, 4, 6, 10, 18, 34]
    assert watch.passes == 40


def test_frozen_layer_is_sampled_on(monkeypatch: pytest.MonkeyPatch) -> None:
    rnn, x = nn.RNN(3, 5).requires_grad_(False), torch.zeros(4, 2, 3, requires_grad=True)
    optimizer = torch.optim.SGD([x], lr=0.1)
    numbers: list[int] = []
    watch = PassWatch(lambda sampled: numbers.append(sampled.number), Cadence(5))
    watch.start()
    for _ in range(11):
        rnn(x)[0].sum().backward()
        optimizer.step()
    watch.stop()

    assert watch.fault is None
    assert numbers[:3] == [0, 1, 2]
    assert len(numbers) >= 4  # at the steps of its optimizer, as it has no gradient of its own


def test_updates_by_hand_are_steps() -> None:
    told: list[int] = []
    rnn = nn.RNN(3, 5)
    with watching(every=2, on_step=told.append) as (watch, seen):
        for _ in range(7):
            rnn.zero_grad()
            rnn(torch.randn(4, 2, 3))[0].sum().backward()
            for p in rnn.parameters():
                assert p.grad is not None
                p.data.add_(p.grad, alpha=-0.1)

    assert seen.steps == seen.numbers == [0, 1, 2, 4, 6]
    assert watch.steps == 7
    assert told == [1, 2, 3, 4, 5, 6]  # known from the second pass on


def test_steps_are_those_of_the_optimizers() -> None:
    told: list[int] = []
    rnn, head = nn.RNN(3, 5), nn.Linear(5, 1)
    both = [torch.optim.SGD(each.parameters(), lr=0.1) for each in (rnn, head)]
    with watching(on_step=told.append) as (watch, seen):
        for _ in range(3):
            for _ in range(2):
                head(rnn(torch.randn(4, 2, 3))[0]).sum().backward()
            for optimizer in both:
                optimizer.step()

    assert (watch.passes, watch.steps) == (6, 3)
    assert seen.steps == [0, 0, 1, 1, 2, 2]
    assert told == [1, 2, 3]


def test_nothing_is_left_when_it_stops() -> None:
    own, asked = torch.autograd.backward, MODULES._has_any_global_hook
    before = asked()  # what other code of this process may have left
    rnn = nn.LSTM(3, 5)
    with watching(every=50):
        train(rnn, steps=5)
        assert torch.autograd.backward is not own

    assert torch.autograd.backward is own
    assert MODULES._has_any_global_hook is asked
    assert asked() == before
    assert not _global_optimizer_post_hooks
    assert not any(p._backward_hooks for p in rnn.parameters())
    assert len(forks._registered) == 1


def test_wrapper_that_somebody_put_on_ours_is_left_in_place() -> None:
    own, calls = torch.autograd.backward, []
    with watching() as (_, seen):
        ours = torch.autograd.backward

        def theirs(*args: object, **options: object) -> None:
            calls.append(1)
            ours(*args, **options)  # type: ignore[arg-type]

        torch.autograd.backward = theirs
        train(nn.RNN(3, 5), steps=2)
    try:
        assert torch.autograd.backward is theirs
        train(nn.RNN(3, 5), steps=1)
        assert (len(calls), len(seen.errors)) == (3, 2)
    finally:
        torch.autograd.backward = own


def test_hooks_are_gone_between_samples() -> None:
    rnn = nn.RNN(3, 5)
    with watching(every=50):
        train(rnn, steps=3)

        assert not MODULES._global_forward_hooks
        assert not MODULES._global_forward_pre_hooks
        assert sum(len(p._backward_hooks or ()) for p in rnn.parameters()) == 1


@pytest.mark.parametrize("every", [1, 50])
def test_no_graph_is_kept_after_its_pass(every: int) -> None:
    rnn = nn.LSTM(3, 5)
    with watching(every):
        for _ in range(6):
            out, state = rnn(torch.randn(9, 2, 3))
            gone = [sentinel(out), sentinel(state[0])]
            out.sum().backward()
            del out, state
            # … by counting references alone, as it is without us
            assert [each() for each in gone] == [None, None]


def test_no_graph_is_kept_that_is_never_differentiated() -> None:
    """A validation without `no_grad`, while the watch waits for the next pass."""
    rnn, cell = nn.GRU(3, 5), nn.LSTMCell(5, 4)
    with watching() as (_, seen):
        for _ in range(3):
            out, state = rnn(torch.randn(9, 2, 3))
            h, c = cell(out[0])
            gone = [sentinel(out), sentinel(h)]
            del out, state, h, c
            assert [each() for each in gone] == [None, None]
        train(rnn, steps=1)

    assert max(seen.errors) <= EXACT
    assert seen.layers == [["gru.l0"]]


def test_records_of_passes_never_differentiated_do_not_pile_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recording, "KEPT_BYTES", 10_000)
    rnn = nn.GRU(3, 5)
    with watching() as (watch, seen):
        for _ in range(200):
            rnn(torch.randn(9, 2, 3))
        state = torch.zeros(1, 2, 5)
        for _ in range(200):  # … nor those that go on from one another
            state = rnn(torch.randn(9, 2, 3), state)[1].detach()
        assert watch._recorder is not None
        assert len(watch._recorder.calls) < 20  # each keeps about 1 KB
        train(rnn, steps=1)

    assert seen.layers == [["gru.l0"]]


def test_weights_go_to_other_processes_without_a_warning() -> None:
    """… which torch gives of any hook on a tensor that is not marked; here warnings are errors."""
    rnn = nn.RNN(3, 5)
    with watching(every=50):
        train(rnn, steps=3)
        for p in rnn.parameters():
            torch.utils.hooks.warn_if_has_hooks(p)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_forked_child_is_not_watched() -> None:
    own = torch.autograd.backward
    rnn = nn.RNN(3, 5)
    with watching(every=2) as (_, seen):
        train(rnn, steps=2)
        pid = os.fork()
        if pid == 0:
            clean = torch.autograd.backward is own and not MODULES._global_forward_hooks
            train(rnn, steps=3)
            os._exit(0 if clean and len(seen.errors) == 2 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        train(rnn, steps=2)

    assert len(seen.errors) == 3  # 0, 1, 2: the parent is watched on


def test_time_spent_is_counted() -> None:
    rnn = nn.LSTM(3, 64)
    with watching() as (watch, _):
        train(rnn, steps=1)
        one = watch.seconds
        train(rnn, steps=5)

    assert one > 0
    assert watch.seconds > 2 * one  # five more samples, of the same size
