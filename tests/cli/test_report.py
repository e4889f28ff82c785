"""`gradreach report` tells a run from its folder, also when it was killed, and writes the page."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner
from tests.report.flows import geometric_flow
from tests.report.test_html import Page
from tests.runs import trainings

import gradreach
from gradreach.cli import main
from gradreach.diagnosis.diagnose import diagnose
from gradreach.records import Event, Sample
from gradreach.records.sighting import Sighting
from gradreach.runs.folder import RunFolder
from gradreach.runs.journal import JournalWriter


def report(*arguments: object):
    return CliRunner().invoke(main, ["report", *map(str, arguments)], prog_name="gradreach")


def record(path, gain: float, *, ended: bool = True, steps: int = 60):
    """Write a run whose loss falls and whose gradient fades by ``gain`` per timestep."""
    flow = geometric_flow(gain)
    found = tuple(diagnose(flow))
    folder = RunFolder(path)
    folder.write_meta({"state": "running", "command": ["train.py"]})
    journal = JournalWriter(path)
    for step in range(steps):
        journal.row({"step": step, "loss": 0.9**step, "gradient_norm": 1.0, "update_norm": 0.1,
                     "weight_norm": 9.0, "learning_rate": 0.1, "nonfinite": 0.0})  # fmt: skip
        if step % 20 == 0:
            journal.sample(Sample.of(flow, step, step, "cadence", found))
            folder.write_flow(step, flow.to_dict())
    journal.flush()
    if ended:
        folder.write_findings([Sighting.at(finding, 0).to_dict() for finding in found])
        folder.write_meta({"state": "ended", "command": ["train.py"]})
        journal.close({"steps": steps, "seconds": 2.0})
    return path


def killed(path, *, rows: int = 150):
    """Let another process write a run and kill itself."""
    script = (
        "import os, signal, sys\n"
        "from tests.runs import trainings\n"
        "from gradreach.runs.journal import JournalWriter\n"
        "journal = JournalWriter(sys.argv[1])\n"
        f"for step in range({rows}): journal.row(trainings.row(step))\n"
        "journal.sample(trainings.sample(5))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, path], check=False)
    assert done.returncode == -signal.SIGKILL
    return path


def test_ended_run_is_told_with_its_findings_and_its_page(tmp_path):
    run = record(tmp_path / "run", 0.5)

    done = report(run)

    assert done.exit_code == 1
    assert done.output.startswith("train.py: 1 problem found: vanishing-gradient in rnn.l0.\n")
    assert "60 recorded steps, 2.0 s, 3 samples" in done.output
    assert "  loss                 1 → 0.002" in done.output
    assert "Gradient flow at step 0:" in done.output
    assert done.output.endswith(f"Report: {run / 'report.html'}\n")
    assert max(map(len, done.output.splitlines()[:-1])) <= 80
    page = Page((run / "report.html").read_text(encoding="utf-8"))
    assert {"Findings", "Over training"} <= set(page.told("h2"))


def test_healthy_run_ends_with_0(tmp_path):
    done = report(record(tmp_path / "run", 1.0))

    assert done.exit_code == 0
    assert "No problem found." in done.output


def test_killed_run_is_told_to_its_last_flushed_line(tmp_path):
    done = report(killed(tmp_path / "run"))

    assert done.exit_code == 1
    assert "150 recorded steps" in done.output
    assert "The run was never closed (its process was killed)" in done.output
    assert (tmp_path / "run" / "report.html").exists()


def test_running_run_can_be_looked_at(tmp_path):
    done = report(record(tmp_path / "run", 1.0, ended=False))

    assert done.exit_code == 0
    assert f"being written by pid {os.getpid()} on" in " ".join(done.output.split())


def test_need_of_the_task_makes_the_finding_graver(tmp_path):
    run = record(tmp_path / "run", 0.5)

    done = report("--needs-lag", 25, "--json", run)

    found = {each["code"]: each["severity"] for each in json.loads(done.stdout)["findings"]}
    assert found["vanishing-gradient"] == "error"


def test_json_is_one_strict_object(tmp_path):
    run = trainings.write(tmp_path / "run").parent  # NaN and infinities among its numbers

    done = report("--json", run)

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    told = json.loads(done.stdout, parse_constant=refuse)
    assert told["schema_version"] == 1
    assert (told["state"], told["recorded_steps"], told["samples"]) == ("ended", 20, 1)
    assert told["exit_code"] == done.exit_code
    assert told["events"][0]["kind"] == "clip"
    assert told["report"] == str(run / "report.html")


def test_folder_of_diagnose_without_a_journal_is_told(tmp_path):
    run = record(tmp_path / "run", 0.5)
    (run / "journal.jsonl").unlink()

    done = report(run)

    assert done.exit_code == 1
    assert "vanishing-gradient" in done.output
    assert "Over training" not in (run / "report.html").read_text(encoding="utf-8")


def test_run_in_which_nothing_was_measured_ends_with_3(tmp_path):
    JournalWriter(tmp_path / "run").close()

    assert report(tmp_path / "run").exit_code == 3


@pytest.mark.parametrize("name", ["", "nowhere", "x" * 300])
def test_what_is_no_run_is_a_usage_error(name, tmp_path):
    done = report(tmp_path / name)

    assert done.exit_code == 2
    assert "is no run folder" in done.output
    assert "Traceback" not in done.output


def test_newer_journal_is_refused_in_one_sentence(tmp_path):
    run = trainings.write(tmp_path / "run").parent
    journal = run / "journal.jsonl"
    from gradreach.runs.journal_format import encode

    journal.write_bytes(
        encode(0, "meta", {"format": "gradreach-journal", "schema_version": 9, "columns": []})
    )
    done = report(run)

    assert done.exit_code == 3
    assert done.stderr.count("\n") == 1
    assert "schema version 9" in done.stderr


def test_damage_is_told(tmp_path):
    run = record(tmp_path / "run", 1.0)
    lines = (run / "journal.jsonl").read_bytes().split(b"\n")
    lines[10] = lines[10][:30]
    (run / "journal.jsonl").write_bytes(b"\n".join(lines))

    done = report(run)

    assert "1 line of the journal is damaged and left out." in done.output
    assert "59 recorded steps" in done.output or "59 of them recorded" in done.output


def test_page_goes_where_it_is_told(tmp_path):
    run = record(tmp_path / "run", 1.0)

    done = report("--output", tmp_path / "deep" / "page.html", run)

    assert done.exit_code == 0
    assert (tmp_path / "deep" / "page.html").exists()
    assert not (run / "report.html").exists()


def test_page_that_cannot_be_written_leaves_the_story(tmp_path):
    run = record(tmp_path / "run", 1.0)
    (tmp_path / "file").write_text("")

    done = report("--output", tmp_path / "file" / "page.html", run)

    assert done.exit_code == 3
    assert "No problem found." in done.stdout
    assert "cannot write" in done.stderr
    assert "Report:" not in done.stdout


def test_names_in_a_record_cannot_command_the_terminal(tmp_path):
    with JournalWriter(tmp_path / "run") as journal:
        journal.row({"step": 0, "loss": 1.0})
        journal.event(Event(kind="clip", step=0, text="\x1b[2J\x1b]0;owned\x07 \x9b31m"))

    assert not set("\x1b\x07\x9b") & set(report(tmp_path / "run").output)


def test_report_needs_no_torch(tmp_path):
    run = record(tmp_path / "run", 0.5)
    script = (
        "import sys\nfrom gradreach.cli import main\n"
        f"try: main(['report', {str(run)!r}])\n"
        "except SystemExit: pass\nassert 'torch' not in sys.modules\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


def watch_and_end(path, ended) -> None:
    """Watch a training of eight steps and call ``ended`` before the watch is."""
    model = torch.nn.RNN(2, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with gradreach.watch(model, optimizer, run=path, every=1):
        for _ in range(8):
            optimizer.zero_grad()
            model(torch.rand(40, 3, 2))[0][-1].square().mean().backward()
            optimizer.step()
        ended()


@pytest.mark.parametrize("kill", [False, True])
def test_folder_of_a_watched_loop_is_told_also_after_a_kill(kill, tmp_path):
    if kill:
        script = (
            "import os, signal, sys\n"
            "from tests.cli.test_report import watch_and_end\n"
            "watch_and_end(sys.argv[1], lambda: os.kill(os.getpid(), signal.SIGKILL))\n"
        )
        done = subprocess.run([sys.executable, "-c", script, tmp_path / "run"], check=False)
        assert done.returncode == -signal.SIGKILL
    else:
        watch_and_end(tmp_path / "run", lambda: None)

    done = report("--json", tmp_path / "run")

    told = json.loads(done.stdout)
    assert told["state"] == ("killed" if kill else "ended")
    assert told["samples"] == 8
    assert told["recorded_steps"] >= 6  # a sample writes the rows before it, too
    assert "vanishing-gradient" in [finding["code"] for finding in told["findings"]]
    assert done.exit_code == 1
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert ": gradient by training step and timestep</h3>" in page
