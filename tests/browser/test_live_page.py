"""The live page as a browser shows it while trainings really run."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import pytest
from tests.browser.hostile import STRINGS
from tests.browser.test_report_page import harm
from tests.runs import trainings

from gradreach.report.live.access import own_names
from gradreach.report.live.runs import ServedRuns
from gradreach.report.live.server import open_server
from gradreach.runs.journal import JournalWriter, read_history

SCRIPT = """
import pathlib, sys, time, torch, gradreach
seen = pathlib.Path(sys.argv[2])
model = torch.nn.LSTM(1, 8)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
with gradreach.watch(model, optimizer, run=sys.argv[1], every=4):
    after = 0
    for step in range(4000):
        after += seen.exists()
        optimizer.zero_grad()
        model(torch.randn(16, 4, 1))[0][-1].square().mean().backward()
        optimizer.step()
        time.sleep(0.03)
        if after == 8:
            break
"""
ROWS = "Number(document.querySelector('.run')?.dataset.rows ?? -1)"
STATE = "document.querySelector('.run')?.dataset.state"


@pytest.fixture
def serve():
    servers = []

    def serve(*paths, port=0, token="t"):
        server = open_server("127.0.0.1", port, ServedRuns(paths), token, own_names("::1", ()))
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return server

    yield serve
    for server in servers:
        server.close()


def test_page_grows_while_a_training_really_runs(tmp_path, serve, visit):
    runs = tmp_path / "runs"
    runs.mkdir()
    server = serve(runs)
    seen = visit()
    # The training goes on until the page has shown some of it, however slow the machine is.
    growing = tmp_path / "growing"
    training = subprocess.Popen([sys.executable, "-c", SCRIPT, runs / "run", growing])
    try:
        seen.page.goto(server.url)
        seen.until(f"{ROWS} > 3", seconds=90)
        early = seen.page.evaluate(ROWS)
        growing.touch()
        seen.until(f"{STATE} === 'ended'", seconds=90)
        assert training.wait(30) == 0
    finally:
        training.kill()

    assert early + 7 <= seen.page.evaluate(ROWS) == len(read_history(runs / "run"))
    assert seen.page.locator("figure[data-panel^='map '] canvas").is_visible()
    assert seen.page.locator("figure[data-panel=loss] canvas").is_visible()
    assert seen.page.locator("[data-panel^='profile '] canvas").is_visible()
    assert "run ended" in seen.page.locator(".state").inner_text()
    assert seen.complaints == []
    assert {request.split("/")[2] for request in seen.requests} == {
        f"127.0.0.1:{server.server_port}"
    }


def test_first_curve_and_every_update_come_without_a_reload(tmp_path, serve, visit):
    seen = visit()
    with JournalWriter(tmp_path / "run") as journal:
        for step in range(2_000):
            journal.row(trainings.row(step))
        journal.sample(trainings.sample(3))
        server = serve(tmp_path / "run")
        seen.page.goto(server.url)
        seen.until("document.documentElement.dataset.first")
        for step in range(2_000, 2_007):
            journal.row(trainings.row(step))
            journal.flush()
            seen.until(f"{ROWS} === {step + 1}")

    # How fast is measured by proofs/report_size.py.
    assert int(seen.page.evaluate("document.documentElement.dataset.first")) > 0
    assert seen.complaints == []


def test_page_says_that_the_server_is_gone_and_finds_it_again(tmp_path, serve, visit):
    seen = visit()
    with JournalWriter(tmp_path / "run") as journal:
        journal.row({"step": 0, "loss": 1.0})
        journal.flush()
        first = serve(tmp_path / "run")
        seen.page.goto(first.url)
        seen.until(f"{ROWS} === 1")

        first.close()
        seen.until("document.documentElement.dataset.connection === 'lost'")
        told = seen.page.locator("#connection").inner_text()
        kept = seen.page.locator("figure[data-panel=loss]").is_visible()
        journal.row({"step": 1, "loss": 0.5})
        journal.flush()
        serve(tmp_path / "run", port=first.server_port)
        seen.until(f"{ROWS} === 2")

    assert "stale since" in told
    assert kept, "what was seen stays on the page"
    assert seen.page.evaluate("document.documentElement.dataset.connection") == "open"


def test_runs_are_compared_side_by_side_by_keyboard(tmp_path, serve, visit):
    for name in ("a", "b", "c"):
        with JournalWriter(tmp_path / "runs" / name) as journal:
            for step in range(20):
                journal.row({"step": step, "loss": 1.0 / (step + 1)})
    seen = visit()
    seen.page.goto(serve(tmp_path / "runs").url)
    seen.page.wait_for_selector(".run")

    seen.page.locator("#chooser summary").focus()
    seen.page.keyboard.press("Enter")
    for _ in range(3):
        seen.page.keyboard.press("Tab")
        if not seen.page.evaluate("document.activeElement.checked"):
            seen.page.keyboard.press("Space")
    seen.until("document.querySelectorAll('.run figure').length === 3")

    tops = [box["y"] for box in (each.bounding_box() for each in seen.page.locator(".run").all())]
    assert len(tops) == 3
    assert len(set(tops[:2])) == 1, "beside each other"
    assert seen.complaints == []


def test_hostile_names_execute_nothing_anywhere_on_the_live_page(tmp_path, serve, visit):
    run = tmp_path / "<img src=x onerror=window.pwned=1>"
    with JournalWriter(run) as journal:
        journal.row({"step": 0, "loss": 1.0})
    server = serve(run)
    seen = visit()
    seen.page.goto(server.url)
    seen.until(f"{STATE} === 'ended'")
    assert seen.page.locator(".run h2").inner_text() == run.name
    scripts = harm(seen.page)

    told = f"retry: 99999\n\n{listed(STRINGS)}" + "".join(map(event_of, STRINGS))
    seen.page.route(
        "**/events?*", lambda route: route.fulfill(content_type="text/event-stream", body=told)
    )
    seen.page.reload()
    seen.until(f"document.querySelectorAll('.run').length === {len(STRINGS)}")

    assert scripts == harm(seen.page) == [None, 0, 0, 3]
    shown = seen.page.locator(".run h2").all_text_contents()
    assert [name.split("<")[0][:3] for name in shown] == [
        name.split("<")[0][:3] for name in STRINGS
    ]
    assert [each for each in seen.complaints if "dialog" in each or "Content" in each] == []


def event_of(name: str) -> str:
    """Return one part of a run that is called ``name`` in every place the page shows."""
    curve = {"title": name, "x": name, "log": "auto", "steps": [0, 1],
             "series": [{"name": name, "values": [1.0, name]}, {"name": name, "values": [1, 2]}],
             "mark": {"at": 1, "text": name}}  # fmt: skip
    member = {"place": name, "cause": name, "explains": name, "counter_check": name}
    told = {
        "id": name, "name": name, "whole": True, "state": name, "trouble": name, "rows": 2,
        "seconds_since": 0.0, "verdict": name, "severity": name, "events": [name],
        "findings": [{"severity": name, "code": name, "remedies": name, "members": [member]}],
        "charts": {name: curve}, "profiles": {name: curve},
        "maps": {name: {"title": name, "rows": [[1, "0"]], "labels": [0], "bundle": 1}},
    }  # fmt: skip
    return f"event: run\ndata: {json.dumps(told)}\n\n"


def listed(names: tuple[str, ...]) -> str:
    """Return the list of runs that are called so; the page shows the first and draws the others."""
    told = [{"id": name, "name": name, "changed": name} for name in ("r0", *names)]
    return f"event: runs\ndata: {json.dumps(told)}\n\n"
