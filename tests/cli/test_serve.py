"""`gradreach serve` and `diagnose --live`, as processes of their own."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.runs import trainings

from gradreach.cli import main
from gradreach.runs.journal import JournalWriter, read_history

SCRIPT = """
import os, sys, time, torch
rnn = torch.nn.RNN(1, 8)
optimizer = torch.optim.SGD(rnn.parameters(), lr=0.01)
after = 0
for step in range(4000):
    after += os.path.exists(sys.argv[1])
    optimizer.zero_grad()
    rnn(torch.randn(12, 4, 1))[0][-1].square().mean().backward()
    optimizer.step()
    time.sleep(0.03)
    if after == 8:
        break
try:
    print("children:", os.waitpid(-1, os.WNOHANG))
except ChildProcessError:
    print("no children")
"""


@pytest.fixture
def run(tmp_path):
    with JournalWriter(tmp_path / "run") as journal:
        for step in range(5):
            journal.row(trainings.row(step))
    return tmp_path / "run"


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "gradreach", *map(str, arguments)]


def serving(*arguments: object) -> tuple[subprocess.Popen[str], str]:
    """Start a server; return its process and the line with the address."""
    process = subprocess.Popen(
        command("serve", *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline()


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read().decode()


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    return process.returncode, errors


def test_playground_needs_no_run():
    process, line = serving("--port", 0, "--playground")
    url = line.removeprefix("Playground: ").strip()

    page = get(url)

    assert "/playground?token=" in url
    assert "<title>gradreach playground" in page
    assert page.count("<script nonce=") == page.count("<script") == 1
    assert ended(process) == (0, "")


def test_without_a_run_and_without_the_playground_there_is_nothing_to_serve():
    done = CliRunner().invoke(main, ["serve"])

    assert done.exit_code == 2
    assert "name a run, or give --playground" in done.output


def test_server_prints_its_address_serves_and_ends_with_ctrl_c(run):
    process, line = serving("--port", 0, run)
    url = line.removeprefix("Live page: ").strip()

    page = get(url)
    listed = json.loads(get(url.replace("/?", "/runs?")))

    assert "<title>gradreach live</title>" in page
    assert [each["name"] for each in listed["runs"]] == ["run"]
    code, errors = ended(process)
    assert (code, errors) == (0, "")


def test_taken_port_gives_way_to_the_next_and_only_loopback_listens(run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        process, line = serving("--port", port, "--json", run)
        told = json.loads(line)
        listening = addresses_of(process.pid)
        _, errors = ended(process)

    assert told["port"] > port
    assert f"Port {port} is taken; using {told['port']}." in errors
    assert listening in ({f"0100007F:{told['port']:04X}"}, None)


def addresses_of(pid: int) -> set[str] | None:
    """Return where a process listens, as Linux tells; ``None`` where the system does not."""
    links = Path(f"/proc/{pid}/fd")
    if not links.exists():
        return None
    sockets = {str(link.readlink()) for link in links.iterdir()}
    lines = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
    ]
    return {f[1] for f in lines if f[3] == "0A" and f"socket:[{f[9]}]" in sockets}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--host", "0.0.0.0"], "add --public"),
        (["--host", "0.0.0.0", "--public", "--token", "short"], "at least 16"),
        (["--token", "a b"], "letters, digits"),
        (["--host", "256.1.1.1", "--public"], "cannot be listened on"),
        (["--port", "70000"], "--port"),
    ],
)
def test_address_that_will_not_do_is_a_usage_error(run, arguments, told):
    done = CliRunner().invoke(main, ["serve", *arguments, str(run)])

    assert done.exit_code == 2
    assert told in done.output


def test_folder_that_is_no_run_is_a_usage_error(tmp_path):
    done = CliRunner().invoke(main, ["serve", str(tmp_path / "nothing")])

    assert done.exit_code == 2
    assert "is no run folder and no folder of runs" in done.output


def test_public_server_warns(run):
    process, _ = serving("--host", "0.0.0.0", "--public", "--port", 0, run)

    _, errors = ended(process)

    assert "other machines can reach this page" in errors


def test_serving_imports_no_torch(run):
    code = (
        "import sys\nimport gradreach.report.live.server\n"
        "assert 'torch' not in sys.modules, 'a server beside a training has no need of torch'\n"
    )

    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_live_diagnosis_grows_and_leaves_the_script_alone(tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    process = subprocess.Popen(
        command("diagnose", "--live", "--run", tmp_path / "run", tmp_path / "train.py", "seen"),
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    url = process.stderr.readline().removeprefix("Live page: ").strip()

    rows = followed(url.replace("/?", "/events?runs=r0&"), (tmp_path / "seen").touch)
    output, errors = process.communicate(timeout=120)

    assert process.returncode in (0, 1), errors
    assert rows[-1] == len(read_history(tmp_path / "run"))
    assert len(set(rows)) > 3, "the page grew while the script ran"
    assert output == "no children\n"


def followed(url: str, enough: Callable[[], None]) -> list[int]:
    """Return how many rows each part said there are; after four, the script may end."""
    rows = []
    with urllib.request.urlopen(url, timeout=60) as events:
        for line in events:
            if line.startswith(b"data: {") and b'"rows":' in line:
                told = json.loads(line[6:])
                rows.append(told["rows"])
                if len(set(rows)) == 4:
                    enough()
                if told["state"] in ("ended", "stopped", "killed"):
                    return rows
    return rows


def test_live_page_that_cannot_start_is_said_and_the_script_runs(tmp_path, monkeypatch):
    from gradreach.cli import live_page

    monkeypatch.setattr(live_page, "LAUNCH", "raise SystemExit(1)")
    begun = time.monotonic()

    told = live_page.open_live_page(tmp_path)

    assert told.startswith("The live page could not be started")
    assert time.monotonic() - begun < 20
