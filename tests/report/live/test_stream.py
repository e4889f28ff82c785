"""What a page is sent: all of a run at first, then what is new, and after a break the rest."""

from __future__ import annotations

import http.client
import json
import math
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from tests.runs import trainings

from gradreach.records.history import COLUMNS
from gradreach.report.live.access import own_names
from gradreach.report.live.feed import RunFeed
from gradreach.report.live.runs import ServedRuns
from gradreach.report.live.server import open_server
from gradreach.report.live.story import Position
from gradreach.runs.journal import JournalWriter

TOKEN = "t"


@pytest.fixture
def serve():
    """Serve paths; every server is closed at the end."""
    servers = []

    def serve(*paths):
        server = open_server("127.0.0.1", 0, ServedRuns(paths), TOKEN, own_names("127.0.0.1", ()))
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return server

    yield serve
    for server in servers:
        server.close()


class Browser:
    """Reads the events of one connection, as a browser does."""

    def __init__(self, server, runs="r0", last=None):
        self.connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
        headers = {} if last is None else {"Last-Event-ID": last}
        self.connection.request("GET", f"/events?token={TOKEN}&runs={runs}", headers=headers)
        self.answer = self.connection.getresponse()
        self.last = last

    def next(self, kind="run"):
        """Return the data of the next event of a kind."""
        event, data = "", ""
        while True:
            line = self.answer.readline().decode().rstrip("\n")
            if line.startswith("id: "):
                self.last = line[4:]
            elif line.startswith("event: "):
                event = line[7:]
            elif line.startswith("data: "):
                data = line[6:]
            elif not line and event == kind:
                return json.loads(data)
            elif not line:
                event = ""

    def close(self):
        self.connection.close()


def losses(part):
    return part["charts"]["loss"]["series"][0]["values"]


def test_page_is_sent_the_whole_run_then_what_is_new(tmp_path, serve):
    with JournalWriter(tmp_path / "a") as journal:
        journal.row({"step": 0, "loss": 4.0})
        journal.flush()
        browser = Browser(serve(tmp_path / "a"))

        first = browser.next()
        journal.row({"step": 1, "loss": math.nan, "nonfinite": 3})
        journal.row({"step": 2, "loss": math.inf})
        journal.flush()
        second = browser.next()

    assert (first["whole"], first["state"], losses(first)) == (True, "running", [4.0])
    assert (second["whole"], losses(second)) == (False, ["NaN", "Infinity"])
    assert second["charts"]["loss"]["steps"] == [1, 2]
    assert browser.next()["state"] == "ended"
    browser.close()


def test_after_a_break_only_the_rest_is_sent(tmp_path, serve):
    with JournalWriter(tmp_path / "a") as journal:
        journal.row({"step": 0, "loss": 4.0})
        journal.sample(trainings.sample(0))
        server = serve(tmp_path / "a")
        before = Browser(server)
        before.next()
        before.close()
        journal.row({"step": 1, "loss": 3.0})
        journal.sample(trainings.sample(1))

        after = Browser(server, last=before.last).next()

        assert after["whole"] is False
        assert losses(after) == [3.0]
        assert after["maps"]["rnn.l0"]["labels"] == [1]
        # A page of another server, or one that lies, gets everything.
        for last in ("ffffffff;r0:0.1.1.1", "nonsense", f"{server.boot};r0:9.9.9", f"{server.boot};"
                     "r0:0.99999.1.1", f"{server.boot};r0:0.1.1.x"):  # fmt: skip
            assert Browser(server, last=last).next()["whole"] is True


def test_several_browsers_see_the_same(tmp_path, serve):
    with JournalWriter(tmp_path / "a") as journal:
        journal.row({"step": 0, "loss": 4.0})
        journal.flush()
        server = serve(tmp_path / "a")
        browsers = [Browser(server) for _ in range(5)]
        for browser in browsers:
            browser.next()
        journal.row({"step": 1, "loss": 3.0})
        journal.flush()

        assert [losses(browser.next()) for browser in browsers] == [[3.0]] * 5
    for browser in browsers:
        browser.close()


def test_runs_that_appear_in_a_folder_are_listed_and_links_are_not(tmp_path, serve):
    runs = tmp_path / "runs"
    JournalWriter(runs / "first").close()
    JournalWriter(tmp_path / "secret").close()
    (runs / "link").symlink_to(tmp_path / "secret")
    browser = Browser(serve(runs))

    listed = browser.next("runs")
    JournalWriter(runs / "second").close()
    later = browser.next("runs")
    browser.close()

    assert [run["name"] for run in listed] == ["first"]
    assert {run["name"]: run["id"] for run in later} == {"first": "r0", "second": "r1"}
    assert str(tmp_path) not in json.dumps(later), "no path is told"


def test_two_runs_side_by_side_come_in_one_stream(tmp_path, serve):
    for name, loss in (("a", 1.0), ("b", 2.0)):
        with JournalWriter(tmp_path / name) as journal:
            journal.row({"step": 0, "loss": loss})
    browser = Browser(serve(tmp_path / "a", tmp_path / "b"), runs="r0,r1")

    parts = [browser.next(), browser.next()]

    assert [(part["name"], losses(part)) for part in parts] == [("a", [1.0]), ("b", [2.0])]
    browser.close()


def test_linked_journal_is_not_read(tmp_path):
    with JournalWriter(tmp_path / "secret") as journal:
        journal.row({"step": 0, "loss": 4.0})
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "journal.jsonl").symlink_to(tmp_path / "secret" / "journal.jsonl")
    feed = RunFeed(tmp_path / "run", "r0")

    feed.look()
    told, _ = feed.told(None)

    assert told["rows"] == 0
    assert "cannot be read" in told["trouble"]
    assert str(tmp_path) not in told["trouble"]


def test_killed_run_is_told_as_such_and_a_deleted_one(tmp_path):
    script = (
        "import os, signal, sys\nfrom tests.runs import trainings\n"
        "from gradreach.runs.journal import JournalWriter\n"
        "journal = JournalWriter(sys.argv[1])\n"
        "for step in range(150): journal.row(trainings.row(step))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "run"], check=False)
    feed = RunFeed(tmp_path / "run", "r0")

    feed.look()
    killed = feed.told(None)[0]
    shutil.rmtree(tmp_path / "run")
    feed.look()

    assert done.returncode == -signal.SIGKILL
    assert (killed["state"], killed["rows"] >= 100) == ("killed", True)
    assert feed.told(None)[0]["state"] == "deleted"


def test_run_begun_anew_is_sent_as_a_whole(tmp_path):
    with JournalWriter(tmp_path / "run") as journal:
        for step in range(50):
            journal.row({"step": step, "loss": 1.0})
    feed = RunFeed(tmp_path / "run", "r0")
    feed.look()
    position = feed.told(None)[1]
    shutil.rmtree(tmp_path / "run")
    with JournalWriter(tmp_path / "run") as journal:
        journal.row({"step": 0, "loss": 9.0})

    feed.look()  # it became shorter
    feed.look()
    told, _ = feed.told(position)

    assert (told["whole"], losses(told)) == (True, [9.0])


def test_script_that_has_not_begun_is_waited_for(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "meta.json").write_text('{"state": "running"}')
    feed = RunFeed(tmp_path / "run", "r0")

    feed.look()
    waiting = feed.told(None)[0]["state"]
    with JournalWriter(tmp_path / "run") as journal:
        journal.row({"step": 0, "loss": 1.0})
        journal.flush()
        feed.look()
        assert feed.told(None)[0]["state"] == "running"

    assert waiting == "waiting"


def test_a_million_points_are_sent_as_two_thousand_with_every_peak(tmp_path):
    feed = RunFeed(tmp_path, "r0")
    columns = list(COLUMNS)
    rows = np.full((1_000_000, len(columns)), np.nan)
    rows[:, columns.index("step")] = np.arange(1e6)
    rows[:, columns.index("loss")] = 1.0
    rows[777_777, columns.index("loss")] = 99.0
    rows[55_555, columns.index("loss")] = np.inf
    rows[333_333, columns.index("nonfinite")] = 1.0
    rows[333_333, columns.index("loss")] = np.nan
    feed._known.add_rows(rows)

    told, position = feed.told(None)

    values = losses(told)
    steps = told["charts"]["loss"]["steps"]
    assert len(values) <= 2_000
    assert values[steps.index(777_777)] == 99.0
    assert values[steps.index(55_555)] == "Infinity"
    assert values[steps.index(333_333)] == "NaN"
    assert (steps[0], steps[-1]) == (0, 999_999)
    assert position.rows == 1_000_000
    assert len(json.dumps(told)) < 500_000


def test_torn_line_is_waited_for(tmp_path):
    with JournalWriter(tmp_path / "run") as journal:
        journal.row({"step": 0, "loss": 1.0})
        journal.row({"step": 1, "loss": 2.0})
    path = tmp_path / "run" / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-200])
    feed = RunFeed(tmp_path / "run", "r0")

    feed.look()
    before = feed.told(None)[0]["rows"]
    path.write_bytes(whole)
    feed.look()

    assert (before, feed.told(None)[0]["rows"]) == (1, 2)


@pytest.mark.parametrize("text", ["", "1.2.3", "a.b.c.d", "1.2.-3.x", "²...", "9" * 40 + ".1.1.1"])
def test_position_that_is_none_is_refused(text):
    assert Position.read(text) is None


def test_reading_leaves_the_folder_as_it_is(tmp_path):
    with JournalWriter(tmp_path / "run") as journal:
        journal.row({"step": 0, "loss": 1.0})
        journal.sample(trainings.sample(0))
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}

    feed = RunFeed(tmp_path / "run", "r0")
    feed.look()
    feed.told(None)

    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
