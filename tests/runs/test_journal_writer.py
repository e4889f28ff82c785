"""One writer; nothing acknowledged is lost; nothing that the disk does ends a training."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
from tests.runs import trainings

import gradreach.runs.journal_writer as module
from gradreach.runs.journal import JournalError, JournalWriter, follow, read_history, read_journal


class FullDisk:
    """Stands in for `os.write` on a disk with so many bytes left."""

    def __init__(self, monkeypatch, room: int) -> None:
        self.room = room
        self._write = os.write
        monkeypatch.setattr(module.os, "write", self)

    def __call__(self, descriptor: int, data) -> int:
        if self.room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self._write(descriptor, bytes(data[: self.room]))
        self.room -= written
        return written


def steps(folder) -> list[int]:
    return [int(step) for step in read_history(folder)["step"]]


def test_rows_are_gathered_and_flush_makes_them_readable(tmp_path):
    journal = JournalWriter(tmp_path)

    journal.row(trainings.row(0))
    before = steps(tmp_path)
    assert journal.flush()

    assert (before, steps(tmp_path)) == ([], [0])


def test_a_hundred_rows_or_a_second_are_written_without_a_flush(tmp_path, monkeypatch):
    journal = JournalWriter(tmp_path)

    for step in range(250):
        journal.row(trainings.row(step))
    assert len(steps(tmp_path)) in (200, 250)  # 250 where a second went by on the way
    monkeypatch.setattr(module, "SECONDS", 0.0)
    journal.row(trainings.row(250))

    assert len(steps(tmp_path)) == 251


def test_sample_probe_and_event_are_readable_at_once(tmp_path):
    journal = JournalWriter(tmp_path)

    journal.sample(trainings.sample(1))
    journal.probe(trainings.probe(2))
    journal.event(trainings.event(3))

    history = read_history(tmp_path)
    assert (len(history.samples), len(history.probes), len(history.events)) == (1, 1, 1)


def test_unknown_column_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"row\(\): argument 'row' has unknown columns los"):
        JournalWriter(tmp_path).row({"los": 1.0})


def test_killed_writer_leaves_what_it_flushed_and_the_next_one_goes_on(tmp_path):
    script = (
        "import os, signal, sys\n"
        "from gradreach.runs.journal import JournalWriter\n"
        "journal = JournalWriter(sys.argv[1])\n"
        "for step in range(130): journal.row({'step': step})\n"
        "journal.flush(); journal.row({'step': 130})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path], check=False)
    assert done.returncode == -signal.SIGKILL
    killed = read_journal(tmp_path)
    assert (len(killed.history), killed.ended, killed.complaints) == (130, False, [])

    with JournalWriter(tmp_path) as journal:  # takes over the lock of the dead
        journal.row({"step": 130})

    again = read_journal(tmp_path)
    assert steps(tmp_path) == list(range(131))
    assert (again.ended, again.complaints) == (True, [])


def test_half_a_last_line_is_cut_before_going_on(tmp_path):
    path = trainings.write(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"crc":"1234')

    JournalWriter(tmp_path).close()

    assert path.read_bytes().startswith(whole + b'{"crc":"')
    assert read_journal(tmp_path).complaints == []


def test_numbers_go_on_behind_a_damaged_last_line(tmp_path):
    path = trainings.write(tmp_path)
    path.write_bytes(path.read_bytes()[:-3] + b"!}\n")

    JournalWriter(tmp_path).close()

    journal = read_journal(tmp_path)
    assert (journal.damaged, journal.missing, journal.repeated) == (1, 1, 0)


def test_second_writer_is_refused_with_the_first_ones_name(tmp_path):
    first = JournalWriter(tmp_path / "a")

    host = socket.gethostname()
    said = f"run 'a' is being written by pid {os.getpid()} on host {host}: wait for it to end"
    with pytest.raises(JournalError, match=said):
        JournalWriter(tmp_path / "a")
    first.close()

    JournalWriter(tmp_path / "a").close()
    assert not (tmp_path / "a" / "journal.lock").exists()


@pytest.mark.parametrize(
    ("field", "value", "taken_over"),
    [
        ("boot", "another", True),
        ("started", "1", True),
        ("pid", 2**22 + 12345, True),
        ("pid", "x", True),
        ("host", "elsewhere", False),
        (None, None, False),
    ],
)
def test_lock_of_a_process_that_is_gone_is_taken_over(field, value, taken_over, tmp_path):
    JournalWriter(tmp_path)
    lock = tmp_path / "journal.lock"
    named = json.loads(lock.read_text())
    lock.write_text(json.dumps(named | ({field: value} if field else {})))

    if taken_over:
        JournalWriter(tmp_path).close()
    else:
        with pytest.raises(JournalError, match="is being written by pid"):
            JournalWriter(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 3}'])
def test_lock_that_names_nobody_is_taken_over(content, tmp_path):
    (tmp_path / "journal.lock").write_text(content)

    JournalWriter(tmp_path).close()


def test_of_many_processes_that_open_at_once_one_writes(tmp_path):
    (tmp_path / "journal.lock").write_text(
        json.dumps({"pid": 2**22 + 12345, "host": socket.gethostname()})
    )
    script = (
        "import sys, time\n"
        "from gradreach.runs.journal import JournalError, JournalWriter\n"
        "sys.stdin.read(1)\n"
        "try: journal = JournalWriter(sys.argv[1])\n"
        "except JournalError: print('refused')\n"
        "else: print('writes'); sys.stdout.flush(); sys.stdin.read()\n"
    )
    many = [
        subprocess.Popen([sys.executable, "-c", script, tmp_path], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]  # fmt: skip
    for process in many:
        process.stdin.write("g")
        process.stdin.flush()
    said = sorted(process.stdout.readline().strip() for process in many)
    for process in many:
        process.communicate()

    assert said == ["refused"] * 3 + ["writes"]


def test_fork_of_the_writer_writes_nothing(tmp_path):
    journal = JournalWriter(tmp_path)
    journal.row({"step": 0})

    child = os.fork()
    if child == 0:
        journal.row({"step": 99})
        journal.event(trainings.event(99))
        journal.close()
        os._exit(0)
    os.waitpid(child, 0)
    journal.row({"step": 1})
    journal.close()

    assert steps(tmp_path) == [0, 1]
    assert read_journal(tmp_path).complaints == []


@pytest.mark.parametrize("room", [0, 1, 250, 3000])
def test_short_lack_of_space_loses_nothing(room, tmp_path, monkeypatch):
    journal = JournalWriter(tmp_path)
    disk = FullDisk(monkeypatch, room)

    for step in range(150):
        journal.row(trainings.row(step))
    assert not journal.flush()
    assert journal.trouble is not None
    assert "cannot be written (No space left on device): free some space" in journal.trouble
    assert read_journal(tmp_path).complaints == []
    disk.room = 10**9
    journal.row(trainings.row(150))
    assert journal.flush()

    assert journal.trouble is None
    assert steps(tmp_path) == list(range(151))
    assert read_journal(tmp_path).complaints == []


def test_long_lack_of_space_is_a_gap_in_the_record(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "KEPT_BYTES", 3000)
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    journal = JournalWriter(tmp_path)
    disk = FullDisk(monkeypatch, 0)
    for step in range(500):
        journal.row(trainings.row(step))

    disk.room = 10**9
    for step in range(500, 510):
        journal.row(trainings.row(step))
    journal.close()

    history = read_history(tmp_path)
    kept = [int(step) for step in history["step"]]
    gap = history.events[0]
    assert kept[-9:] == list(range(501, 510))
    assert gap.kind == "gap"
    assert gap.numbers["entries"] == 510 - len(kept)
    assert "entries were lost before this step: No space left on device" in gap.text
    assert read_journal(tmp_path).complaints == []


def test_deleted_folder_is_told_once_and_training_goes_on(tmp_path):
    journal = JournalWriter(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")

    journal.row(trainings.row(0))
    assert not journal.flush()
    journal.sample(trainings.sample(1))
    journal.close()

    assert journal.trouble is not None and "deleted while it was written" in journal.trouble
    assert not (tmp_path / "run").exists()


def test_moved_folder_keeps_being_written(tmp_path):
    journal = JournalWriter(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "moved")

    journal.row(trainings.row(0))
    journal.close()

    assert steps(tmp_path / "moved") == [0]


@pytest.mark.parametrize("name", ["file", "file/run", "a\0b", "x" * 300])
def test_folder_that_cannot_be_written_is_told_at_once(name, tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(JournalError, match=r"cannot be written \(.+\): name another"):
        JournalWriter(tmp_path / name)


def test_file_that_is_no_journal_is_left_alone(tmp_path):
    (tmp_path / "journal.jsonl").write_text("my own\nnotes\n")

    with pytest.raises(JournalError, match="it is no journal of gradreach"):
        JournalWriter(tmp_path)

    assert (tmp_path / "journal.jsonl").read_text() == "my own\nnotes\n"
    assert not (tmp_path / "journal.lock").exists()


def test_disk_that_is_full_from_the_start_is_told(tmp_path, monkeypatch):
    FullDisk(monkeypatch, 0)

    with pytest.raises(JournalError, match="cannot be written"):
        JournalWriter(tmp_path)


def test_writing_after_the_end_does_nothing(tmp_path):
    journal = JournalWriter(tmp_path)
    journal.close()

    journal.row(trainings.row(0))
    journal.event(trainings.event(0))
    journal.close()

    assert not journal.flush()
    assert len(read_history(tmp_path)) == 0


def test_reader_may_look_at_any_moment_and_follows_to_the_end(tmp_path):
    journal = JournalWriter(tmp_path)
    seen = []

    for entry in follow(tmp_path, poll=0.0):
        seen.append(entry.kind)
        if len(seen) < 5:
            journal.row(trainings.row(len(seen)))
            journal.flush()
        elif len(seen) == 5:
            journal.close()

    assert seen == ["meta", "row", "row", "row", "row", "end"]


def test_follow_stops_when_told(tmp_path):
    JournalWriter(tmp_path)
    asked = iter([False, False, True])

    assert [entry.kind for entry in follow(tmp_path, poll=0.0, enough=lambda: next(asked))] == [
        "meta"
    ]


def test_a_row_costs_microseconds(tmp_path):
    journal = JournalWriter(tmp_path)
    row = dict.fromkeys(journal._code.columns, 1 / 3)
    spent = []

    for _ in range(5):
        begun = time.process_time()
        for _ in range(2000):
            journal.row(row)
        spent.append((time.process_time() - begun) / 2000)

    # 3 µs on a quiet machine; a JSON list of the same numbers takes more than this limit there.
    assert min(spent) < 15e-6
