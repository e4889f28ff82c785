"""A fault of ours switches the watch off and disturbs nothing."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gradreach.flow.sources.recorder
import gradreach.monitor.session
from gradreach.monitor.backward_calls import BackwardCalls
from gradreach.monitor.by_hand import HandUpdates
from gradreach.monitor.cadence import Cadence
from gradreach.monitor.carried import CarryWatch
from gradreach.monitor.names import LiveNames
from gradreach.monitor.passes import PassWatch
from gradreach.monitor.recording import ScriptRecorder
from gradreach.monitor.session import Session
from gradreach.monitor.session_options import SessionOptions
from gradreach.report import run_report
from gradreach.runs.files import WriteError
from gradreach.runs.folder import RunFolder
from gradreach.script.conclusion import Conclusion, conclude
from gradreach.script.runner import Outcome, StopScript
from gradreach.script.watched import WatchedRun

MODULES = torch.nn.modules.module


def fail(*_: object, **__: object) -> Any:
    """Stand in for a part of ours that is broken."""
    raise RuntimeError("a bug of gradreach")


def train() -> Iterator[Tensor]:
    """Train as a user does, and yield everything that must be the same, to the bit."""
    torch.manual_seed(3)
    model = nn.LSTM(3, 5, num_layers=2, dropout=0.4)
    cell = nn.GRUCell(5, 4)
    optimizer = torch.optim.Adam([*model.parameters(), *cell.parameters()], lr=0.1)
    for _ in range(5):
        state = torch.zeros(2, 4)
        for each in model(torch.randn(6, 2, 3))[0]:
            state = cell(each, state)
        optimizer.zero_grad()
        loss = state.square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        yield loss.detach()
    yield from (p.detach() for p in [*model.parameters(), *cell.parameters()])
    yield torch.get_rng_state()


def watched(folder: Path, enough: Callable[[], None] = fail) -> tuple[list[Tensor], Conclusion]:
    """Train watched, and conclude as the command does."""
    run = RunFolder(folder)
    session = Session(run, SessionOptions(every=1), enough)
    session.start()
    try:
        result = list(train())
    finally:
        session.stop()
    whole = WatchedRun(Outcome(0), 1.0, session, session.trouble, ["train.py"], 0.5)
    return result, conclude(whole, run)


def assert_same_bits(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


BROKEN = [  # where, what, whether something is measured before it breaks
    (gradreach.monitor.session, "analyse", False),
    (gradreach.monitor.session, "diagnose", True),
    (Session, "take", False),
    (Session, "_write", True),
    (LiveNames, "_name_below", False),
    (CarryWatch, "check", False),
    (CarryWatch, "remember", False),
    (ScriptRecorder, "_record_lightly", False),
    (HandUpdates, "look", False),
    (Cadence, "took", True),
    (BackwardCalls, "_note", False),
    (PassWatch, "_begin", False),
    (PassWatch, "_reach", False),
    (PassWatch, "_finish", False),
    (PassWatch, "_set_heartbeats", True),
    (PassWatch, "_called", True),
]


@pytest.mark.parametrize(("owner", "name", "measured"), BROKEN, ids=lambda each: str(each)[-40:])
def test_fault_switches_the_watch_off_and_disturbs_nothing(
    owner: object, name: str, measured: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, backward = list(train()), torch.autograd.backward
    monkeypatch.setattr(owner, name, fail)

    found, story = watched(tmp_path / "run")

    assert_same_bits(found, expected)
    assert torch.autograd.backward is backward
    assert not MODULES._has_any_global_hook()
    said = " ".join(story.text.split())
    assert "switched its watch off (RuntimeError: a bug of gradreach)" in said
    assert "the script was not disturbed" in said
    assert ("Not measured: gradreach itself failed" in said) is not measured
    if not measured:
        assert story.exit_code == 3
    trouble = RunFolder.opened(tmp_path / "run").read("meta.json")["trouble"]
    assert trouble.endswith("RuntimeError: a bug of gradreach\n")


def test_fault_in_recording_a_call_costs_that_layer_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = list(train())
    monkeypatch.setattr(gradreach.flow.sources.recorder, "CellCall", fail)

    found, story = watched(tmp_path / "run")

    assert_same_bits(found, expected)
    meta = RunFolder.opened(tmp_path / "run").read("meta.json")
    assert meta["trouble"] is None
    [spot] = meta["blind"]
    assert (spot["module"], "a bug of gradreach" in spot["reason"]) == ("grucell", True)
    assert "lstm.l0" in story.text


def test_gradient_that_cannot_be_copied_costs_that_layer_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """… as when memory runs out in the middle of the user's backward pass."""
    expected = list(train())
    own = Tensor.clone

    def exhausted(tensor: Tensor, *args: Any, **options: Any) -> Tensor:
        if tensor.shape == (6, 2, 5):  # the gradient of the LSTM's output, and the output
            fail()
        return own(tensor, *args, **options)

    monkeypatch.setattr(Tensor, "clone", exhausted)
    found, _ = watched(tmp_path / "run")
    monkeypatch.undo()

    assert_same_bits(found, expected)
    meta = RunFolder.opened(tmp_path / "run").read("meta.json")
    assert meta["trouble"] is None
    assert [spot["module"] for spot in meta["blind"]] == ["lstm"]


def test_full_disk_costs_the_records_not_the_findings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = list(train())

    def full(*_: object) -> None:
        error = WriteError("cannot write 'pass.json': the disk is full")
        error.errno = errno.ENOSPC
        raise error

    monkeypatch.setattr(RunFolder, "write_flow", full)
    found, story = watched(tmp_path / "run")

    assert_same_bits(found, expected)
    said = " ".join(story.text.split())
    assert "Records are missing: cannot write 'pass.json': the disk is full." in said
    assert "switched its watch off" not in said
    meta = RunFolder.opened(tmp_path / "run").read("meta.json")
    assert (meta["samples"], meta["trouble"]) == (5, None)


def test_report_that_cannot_be_made_costs_the_report_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_report, "write_run_report", fail)

    _, story = watched(tmp_path / "run")

    assert story.exit_code in (0, 1)
    assert "lstm.l0" in story.text
    assert "Report:" not in story.text
    said = " ".join(story.text.split())
    assert "gradreach itself failed (RuntimeError: a bug of gradreach)" in said


def test_script_is_still_stopped_after_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """… as whoever asked for five steps does not wait for a thousand."""
    monkeypatch.setattr(Session, "take", fail)

    def enough() -> None:
        raise StopScript

    session = Session(RunFolder(tmp_path / "run"), SessionOptions(every=1, steps=3), enough)
    session.start()
    with pytest.raises(StopScript):
        list(train())
    session.stop()

    assert session.watch.steps == 3
    assert session.trouble is not None
