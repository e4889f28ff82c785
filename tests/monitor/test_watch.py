"""`gradreach.watch`: two lines around a loop, its record, and nothing left of it."""

from __future__ import annotations

import copy
import io
import math
import multiprocessing
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.monitor.same_bits import Bits
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.utils.checkpoint import checkpoint

import gradreach as gr
from gradreach.errors import NonFiniteGradientError
from gradreach.records.history import COLUMNS
from gradreach.runs.folder import RunFolderError
from gradreach.runs.journal import read_history


class Reader(nn.Module):
    """A sequence in, one number out."""

    def __init__(self, kind: type[nn.RNNBase] = nn.GRU) -> None:
        super().__init__()
        self.rnn = kind(3, 8)
        self.out = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0][-1])


def loss_of(model: nn.Module, steps: int = 12) -> Tensor:
    return (model(torch.randn(steps, 4, 3)) - 1).square().mean()


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 10) -> list[float]:
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def norm_of(tensors: Any) -> float:
    return math.sqrt(sum(float(each.double().square().sum()) for each in tensors))


def test_rows_are_what_the_loop_itself_would_measure() -> None:
    model = Reader()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    start = [p.detach().clone() for p in model.parameters()]
    expected: dict[str, list[float]] = {name: [] for name in ("loss", "gradient_norm",
        "clipped_norm", "update_norm", "weight_norm", "distance")}  # fmt: skip
    with gr.watch(model, optimizer, cost="full", every=50) as watched:
        for _ in range(6):
            optimizer.zero_grad()
            loss = loss_of(model)
            loss.backward()
            before = [p.detach().clone() for p in model.parameters()]
            expected["loss"].append(loss.item())
            expected["gradient_norm"].append(norm_of(p.grad for p in model.parameters()))
            clip_grad_norm_(model.parameters(), 0.2)
            expected["clipped_norm"].append(norm_of(p.grad for p in model.parameters()))
            optimizer.step()
            pairs = list(zip(model.parameters(), before, start, strict=True))
            expected["update_norm"].append(norm_of(p.detach() - b for p, b, _ in pairs))
            expected["weight_norm"].append(norm_of(before))
            expected["distance"].append(norm_of(p.detach() - s for p, _, s in pairs))

    history = watched.history
    assert watched.trouble is None
    for name, values in expected.items():
        assert history[name] == pytest.approx(values, rel=1e-6), name
    assert set(history.rows) == set(COLUMNS)
    assert history["step"].tolist() == list(range(6))
    assert history["clip_order"].tolist() == [1.0] * 6
    assert history["clip_seen"] == pytest.approx(expected["gradient_norm"], rel=1e-5)


def test_directions_of_plain_descent_are_straight_and_of_a_sign_flip_reversed() -> None:
    weight = nn.RNN(1, 1, bias=False)
    optimizer = torch.optim.SGD(weight.parameters(), lr=1.0)
    with gr.watch(weight, optimizer, cost="full", every=100) as watched:
        for step in range(4):
            for p in weight.parameters():
                p.grad = torch.full_like(p, 0.1 * (-1) ** step)
            optimizer.step()

    history = watched.history
    assert history["descent_cosine"] == pytest.approx([1.0] * 4)
    assert history["update_cosine"][1:] == pytest.approx([-1.0] * 3)
    assert history["gradient_cosine"][1:] == pytest.approx([-1.0] * 3)
    assert math.isnan(history["update_cosine"][0])


@pytest.mark.parametrize("scale", [1e-24, 1e-30, 1e18])
def test_norms_of_float32_gradients_do_not_underflow_or_overflow(scale: float) -> None:
    model = nn.RNN(2, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with gr.watch(model, optimizer, cost="full", every=100) as watched:
        for p in model.parameters():
            p.grad = torch.full_like(p, scale)
        optimizer.step()

    entries = sum(p.numel() for p in model.parameters())
    assert watched.history["clipped_norm"] == pytest.approx([scale * math.sqrt(entries)], rel=1e-6)
    assert watched.history["nonfinite"].tolist() == [0.0]


def test_accumulated_passes_are_one_step_with_the_mean_of_their_losses() -> None:
    model = Reader()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses: list[float] = []
    with gr.watch(model, optimizer) as watched:
        for _ in range(4):
            for _ in range(3):
                loss = loss_of(model) / 3
                loss.backward()
                losses.append(loss.item())
            total = norm_of(p.grad for p in model.parameters())
            optimizer.step()
            optimizer.zero_grad()

    history = watched.history
    assert history["passes"].tolist() == [3.0] * 4
    assert history["loss"] == pytest.approx(np.array(losses).reshape(4, 3).mean(1), rel=1e-6)
    assert history["gradient_norm"][-1] == pytest.approx(total, rel=1e-6)


def test_optimizers_at_one_point_are_one_step() -> None:
    model = Reader()
    first = torch.optim.SGD(model.rnn.parameters(), lr=0.1)
    second = torch.optim.Adam(model.out.parameters(), lr=0.01)
    with gr.watch(model) as watched:
        for _ in range(4):
            model.zero_grad()
            loss_of(model).backward()
            before = [p.detach().clone() for p in model.parameters()]
            first.step()
            second.step()
            pairs = zip(model.parameters(), before, strict=True)
            moved = norm_of(p.detach() - b for p, b in pairs)

    history = watched.history
    assert len(history) == 4
    assert history["update_norm"][-1] == pytest.approx(moved, rel=1e-5)
    assert history["learning_rate"].tolist() == [0.1] * 4


def test_passes_of_another_model_are_none_of_ours() -> None:
    model, other = Reader(), Reader(nn.LSTM)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    others = torch.optim.SGD(other.parameters(), lr=0.1)
    with gr.watch(model) as watched:
        for _ in range(3):
            train(other, others, 2)
            train(model, optimizer, 1)

    assert watched.history["passes"].tolist() == [1.0] * 3
    assert {name for each in watched.history.samples for name in each.layers} == {"rnn.l0"}


@pytest.mark.parametrize("kind", ["lbfgs", "sgd"])
def test_step_with_a_closure_is_told_by_where_it_began(kind: str) -> None:
    model = Reader()
    x = torch.randn(9, 4, 3)
    made = {"lbfgs": torch.optim.LBFGS, "sgd": torch.optim.SGD}[kind]
    optimizer = made(model.parameters(), lr=0.1)
    calls: list[tuple[float, float]] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (model(x) - 1).square().mean()
        loss.backward()
        calls.append((loss.item(), norm_of(p.grad for p in model.parameters())))
        return loss

    first: list[int] = []
    with gr.watch(model, optimizer) as watched:
        for _ in range(3):
            first.append(len(calls))
            optimizer.step(closure)

    history = watched.history
    assert history["loss"] == pytest.approx([calls[k][0] for k in first], rel=1e-6)
    assert history["gradient_norm"] == pytest.approx([calls[k][1] for k in first], rel=1e-5)
    assert history["passes"].sum() == len(calls)


def test_scaled_losses_and_gradients_are_told_without_the_factor() -> None:
    model = Reader()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**14)
    seen: list[tuple[float, float]] = []
    with gr.watch(model, optimizer) as watched:
        for step in range(5):
            optimizer.zero_grad()
            loss = loss_of(model) * (math.inf if step == 2 else 1)
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            seen.append((loss.item(), norm_of(p.grad for p in model.parameters())))
            scaler.step(optimizer)
            scaler.update()

    history = watched.history
    finite = [0, 1, 3, 4]
    assert history["loss"][finite] == pytest.approx([seen[k][0] for k in finite], rel=1e-6)
    assert history["gradient_norm"][finite] == pytest.approx([seen[k][1] for k in finite], rel=1e-5)
    assert history["taken"].tolist() == [1, 1, 0, 1, 1]
    assert history["nonfinite"][2] > 0
    assert {"skipped", "nonfinite"} <= {event.kind for event in history.events}


def test_weights_moved_by_hand_are_steps() -> None:
    model = Reader()
    norms = []
    with gr.watch(model) as watched:
        for _ in range(6):
            model.zero_grad()
            loss_of(model).backward()
            norms.append(norm_of(p.grad for p in model.parameters()))
            with torch.no_grad():
                for p in model.parameters():
                    p -= 0.1 * p.grad

    history = watched.history
    assert history["gradient_norm"] == pytest.approx(norms, rel=1e-6)
    assert history["update_norm"] == pytest.approx(0.1 * np.array(norms), rel=1e-4)
    assert history.meta["by_hand"]


def test_jump_of_the_loss_has_the_next_pass_sampled() -> None:
    model = Reader()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with gr.watch(model, optimizer, every=1000) as watched:
        for step in range(40):
            optimizer.zero_grad()
            (loss_of(model) * (1e4 if step == 30 else 1)).backward()
            if step != 30:
                optimizer.step()
            else:
                clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()

    samples = watched.history.samples
    assert [(each.step, each.reason) for each in samples][-1] == (31, "jump")
    assert "jump" in {event.kind for event in watched.history.events}


def test_checkpointed_layer_is_sampled() -> None:
    model = Reader()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gr.watch(model, optimizer) as watched:
        for _ in range(3):
            optimizer.zero_grad()
            x = torch.randn(9, 4, 3, requires_grad=True)
            hidden = checkpoint(lambda v: model.rnn(v)[0], x, use_reentrant=False)
            model.out(hidden[-1]).square().mean().backward()
            optimizer.step()

    assert watched.trouble is None
    assert [list(each.layers) for each in watched.history.samples] == [["rnn.l0"]] * 3


@pytest.mark.parametrize("early", [True, False])
def test_compiled_layer_has_rows_and_is_said_to_be_blind(early: bool) -> None:
    model = torch.compile(Reader(), backend="eager")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if not early:
        train(model, optimizer, 2)
    with gr.watch(model, optimizer) as watched:
        losses = train(model, optimizer, 4)
    torch.compiler.reset()

    history = watched.history
    assert watched.trouble is None
    assert history["loss"] == pytest.approx(losses, rel=1e-6)
    assert history["update_norm"].min() > 0
    (told,) = [event for event in history.events if event.kind == "blind"]
    assert told.step <= 2
    assert told.numbers["module"] == "rnn"
    assert "torch.compile" in told.text


def test_layer_that_is_never_called_is_said_to_be_blind_within_two_steps() -> None:
    model = nn.ModuleDict({"idle": nn.GRU(2, 2), "out": nn.Linear(2, 1)})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watched = gr.watch(model, optimizer).start()
    for _ in range(2):
        model["out"](torch.randn(4, 2)).sum().backward()
        optimizer.step()

    told = [event for event in watched.history.events if event.kind == "blind"]
    watched.stop()
    assert ["idle" in event.text for event in told] == [True]


def test_same_bits_as_without_and_nothing_left() -> None:
    def left(watch: bool) -> tuple[Bits, nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(5)
        model = Reader(nn.LSTM)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        watched = gr.watch(model, optimizer, cost="full", every=3).start() if watch else None
        train(model, optimizer, 12)
        if watched is not None:
            watched.stop()
            watched.stop()
            assert watched.trouble is None
            assert any(not probe.reason for probe in watched.history.probes)
        return Bits.of(model, optimizer), model, optimizer

    threads = threading.active_count()
    plain, model, optimizer = left(watch=False)
    bits, watched_model, watched_optimizer = left(watch=True)

    assert bits == plain
    assert Bits.hooks() == []
    assert threading.active_count() == threads
    for one, other in ((model, watched_model), (optimizer, watched_optimizer)):
        assert vars(one).keys() == vars(other).keys()
    for one, other in zip(model.modules(), watched_model.modules(), strict=True):
        assert vars(one).keys() == vars(other).keys()
    for p in watched_model.parameters():
        assert not p._backward_hooks
        assert not p._post_accumulate_grad_hooks
        assert vars(p) == {}


def test_model_saved_while_watched_loads_where_there_is_no_gradreach(tmp_path: Path) -> None:
    model = nn.Sequential(nn.GRU(3, 8))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gr.watch(model, optimizer, cost="full", every=2):
        for _ in range(3):
            model(torch.randn(5, 2, 3))[0].sum().backward()
            optimizer.step()
        torch.save(model, tmp_path / "model.pt")
        (tmp_path / "optimizer.pkl").write_bytes(pickle.dumps(optimizer))
        twin = copy.deepcopy(model)
        buffer = io.BytesIO()
        torch.save(twin.state_dict(), buffer)

    program = f"""
import sys
sys.modules["gradreach"] = None  # importing it fails
import pickle, torch
model = torch.load({str(tmp_path / "model.pt")!r}, weights_only=False)
pickle.load(open({str(tmp_path / "optimizer.pkl")!r}, "rb"))
print(model(torch.zeros(2, 1, 3))[0].shape)
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(not p._backward_hooks for p in twin.parameters())


def _child(queue: Any, watched: gr.Watch, model: nn.Module) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train(model, optimizer, 2)
    watched.stop()
    queue.put((len(watched.history), Bits.hooks()))


def test_forked_child_does_not_watch(tmp_path: Path) -> None:
    model = Reader()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    with gr.watch(model, optimizer, run=tmp_path / "run") as watched:
        train(model, optimizer, 3)
        process = context.Process(target=_child, args=(queue, watched, model))
        process.start()
        told = queue.get()
        process.join(timeout=30)
        train(model, optimizer, 2)

    assert told == (3, [])
    assert len(read_history(tmp_path / "run")) == 5


def test_run_folder_has_the_history(tmp_path: Path) -> None:
    model = Reader()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gr.watch(model, optimizer, run=tmp_path / "run", needs_lag=9) as watched:
        train(model, optimizer, 8)

    read = read_history(tmp_path / "run")
    for name in COLUMNS:
        assert np.array_equal(read[name], watched.history[name], equal_nan=True), name
    assert read.needs_lag == 9
    assert len(read.samples) == len(watched.history.samples) > 0
    assert {"meta.json", "findings.json"} <= {path.name for path in (tmp_path / "run").iterdir()}
    with pytest.raises(RunFolderError, match="is not empty"):
        gr.watch(model, run=tmp_path / "run")


def test_loggers_get_few_numbers_and_one_that_fails_disturbs_nobody() -> None:
    model = Reader()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    got: list[tuple[dict[str, float], int]] = []

    def broken(numbers: dict[str, float], step: int) -> None:
        raise ConnectionError("the server is gone")

    with gr.watch(model, optimizer, loggers=[broken, lambda n, s: got.append((n, s))]) as watched:
        train(model, optimizer, 9)

    assert [step for _, step in got] == list(range(9))
    assert all(0 < len(numbers) <= 8 for numbers, _ in got)
    assert watched.trouble is None
    assert len(watched.history) == 9
    assert ["the server is gone" in e.text for e in watched.history.events if e.kind == "gap"] == [
        True
    ]


def test_step_with_a_gradient_that_is_not_finite_is_blocked_and_located() -> None:
    model = Reader()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    with gr.watch(model, optimizer, block_nonfinite=True) as watched:
        for step in range(5):
            optimizer.zero_grad()
            x = torch.randn(12, 4, 3)
            if step == 2:
                x[7, 3] = math.nan
            model(x).square().mean().backward()
            optimizer.step()

    history = watched.history
    (told,) = [event for event in history.events if event.kind == "nonfinite"]
    (blocked,) = [event for event in history.events if event.kind == "blocked"]
    assert history["taken"].tolist() == [1, 1, 0, 1, 1]
    assert (told.step, blocked.step, told.numbers["step"], told.numbers["row"]) == (2, 2, 7, 3)
    assert all(p.isfinite().all() for p in model.parameters())
    assert watched.trouble is None
    assert Bits.hooks() == []


def test_more_blocked_steps_than_allowed_end_the_training() -> None:
    model = Reader()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    watched = gr.watch(model, optimizer, block_nonfinite=2).start()
    for _ in range(2):
        model(torch.full((5, 1, 3), math.nan)).sum().backward()
        optimizer.step()

    with pytest.raises(NonFiniteGradientError, match="after 2 steps were blocked"):
        optimizer.step()

    watched.stop()

    assert watched.history["taken"].tolist() == [0, 0, 0]
    assert Bits.hooks() == []


def test_report_is_written_with_what_watching_cost(tmp_path: Path) -> None:
    model = Reader()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gr.watch(model, optimizer) as watched:
        train(model, optimizer, 5)

    watched.report(tmp_path / "report.html")

    page = (tmp_path / "report.html").read_text("utf-8")
    assert "on top of the training" in page
    assert watched.overhead > 0


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"model": [1]}, TypeError, "argument 'model' must be a torch.nn.Module; got list"),
        ({"optimizer": "adam"}, TypeError, "argument 'optimizer' must be a torch optimizer"),
        ({"optimizer": [1.0]}, TypeError, "argument 'optimizer' must be a torch optimizer"),
        ({"every": 0}, ValueError, "argument 'every' must be a whole number, 1 or more; got 0"),
        ({"every": True}, ValueError, "argument 'every' must be a whole number"),
        ({"needs_lag": 2.5}, ValueError, "argument 'needs_lag' must be a whole number"),
        ({"cost": "cheap"}, ValueError, "argument 'cost' must be one of economy, standard, full"),
        ({"loggers": [3]}, TypeError, "or a function of"),
        ({"loggers": 3}, TypeError, "argument 'loggers' must be a list"),
        ({"run": 7}, TypeError, "argument 'run' must be the path of a folder"),
        ({"block_nonfinite": -1}, ValueError, "argument 'block_nonfinite' must be"),
        ({"block_nonfinite": "yes"}, ValueError, "argument 'block_nonfinite' must be"),
    ],
)
def test_wrong_argument_is_refused_at_once(
    arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    given = {"model": nn.RNN(1, 1), **arguments}

    with pytest.raises(error, match=words):
        gr.watch(**given)
