"""A run folder is read whatever became of the run."""

from __future__ import annotations

import os

import pytest
from tests.report.flows import geometric_flow
from tests.runs import trainings

from gradreach.runs.folder import RunFolder, RunFolderError
from gradreach.runs.journal import JournalWriter
from gradreach.runs.run_record import read_run


def finished(path, **meta):
    folder = RunFolder(path)
    trainings.write(path)
    for number, gain in ((3, 0.5), (40, 0.8), (900, 0.9)):
        flow = geometric_flow(gain).to_dict()
        flow["meta"]["step"] = number - 1
        folder.write_flow(number, flow)
    folder.write_findings([])
    folder.write_meta({"state": "ended", "command": ["train.py", "--x"], **meta})
    return path


def test_ended_run_is_read_whole(tmp_path):
    record = read_run(finished(tmp_path / "run"))

    assert (record.state, record.name, record.complaints) == ("ended", "train.py", ())
    assert len(record.history) == 20
    assert [step for step, _ in record.flows] == [2, 899]  # the first and the latest
    assert record.writer is None


def test_run_that_was_stopped_says_so(tmp_path):
    assert read_run(finished(tmp_path / "run", state="stopped")).state == "stopped"


def test_run_that_is_written_names_its_writer(tmp_path):
    journal = JournalWriter(tmp_path / "run")
    journal.row({"step": 0})
    journal.flush()

    record = read_run(tmp_path / "run")

    assert record.state == "running"
    assert record.writer.startswith(f"pid {os.getpid()} on host ")
    assert (record.name, len(record.history)) == ("run", 1)


def test_killed_run_is_told_from_a_running_one(tmp_path):
    finished(tmp_path / "run", state="running")
    file = tmp_path / "run" / "journal.jsonl"
    file.write_bytes(file.read_bytes().rpartition(b'{"crc":')[0])

    assert read_run(tmp_path / "run").state == "killed"


def test_folder_without_a_journal_is_read_from_its_files(tmp_path):
    finished(tmp_path / "run")
    (tmp_path / "run" / "journal.jsonl").unlink()

    record = read_run(tmp_path / "run")

    assert (record.history, record.state, len(record.flows)) == (None, "ended", 2)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("meta.json", "meta.json' cannot be read"),
        ("findings.json", "findings.json' cannot be read"),
        ("flows/pass-00000003.json", "pass-00000003.json cannot be read"),
    ],
)
def test_damaged_file_is_told_and_the_rest_is_read(name, said, tmp_path):
    finished(tmp_path / "run")
    (tmp_path / "run" / name).write_text('{"half": ')

    record = read_run(tmp_path / "run")

    assert any(said in complaint for complaint in record.complaints)
    assert len(record.history) == 20


@pytest.mark.parametrize("content", ["[]", "3", '{"findings": [3]}', '{"findings": 3}'])
def test_findings_that_are_none_are_told(content, tmp_path):
    finished(tmp_path / "run")
    (tmp_path / "run" / "findings.json").write_text(content)

    assert read_run(tmp_path / "run").findings == ()


@pytest.mark.parametrize("name", ["", "nowhere", "a\0b", "x" * 300])
def test_other_folder_is_refused_in_one_sentence(name, tmp_path):
    with pytest.raises(RunFolderError, match="is no run folder: it has neither journal"):
        read_run(tmp_path / name)


def test_journal_itself_may_be_named(tmp_path):
    finished(tmp_path / "run")

    assert len(read_run(tmp_path / "run" / "journal.jsonl").history) == 20
