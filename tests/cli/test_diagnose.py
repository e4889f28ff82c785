"""`gradreach diagnose`: its options, its exit codes, and what it makes of bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.script.twins import (
    RULE,
    SCRIPTS,
    Ended,
    codes,
    diagnose,
    ended,
    environment,
    flows,
    meta,
    watched,
)

from gradreach.runs.folder import RunFolder

HEALTHY, PROBLEM, USAGE, NOT_MEASURED, INTERRUPTED, READER_GONE = 0, 1, 2, 3, 130, 141


def assert_one_sentence(done: Ended, *words: str) -> None:
    """Assert a usage error: nothing on standard output, one sentence, no traceback."""
    assert (done.code, done.out) == (USAGE, b"")
    told = [line for line in done.err.splitlines() if line.startswith("Error: ")]
    assert len(told) == 1
    assert "Traceback" not in done.err
    for word in words:
        assert word in told[0]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["no-such.py"], ["'no-such.py'", "does not exist", "name a Python file"]),
        (["."], ["'.'", "is a folder", "name a Python file"]),
        (["--no-such-option", "script.py"], ["--no-such-option"]),
        (["--every", "0", "script.py"], ["--every", "0"]),
        (["--steps", "many", "script.py"], ["--steps", "many"]),
        (["--run", "full", "script.py"], ["'full'", "not empty", "--run"]),
        (["--run", "file/run", "script.py"], ["'file/run'", "cannot be made", "--run"]),
        (["--run", "/proc/run", "script.py"], ["'/proc/run'", "cannot be made", "--run"]),
        ([], ["SCRIPT"]),
    ],
)
def test_bad_usage_is_told_in_one_sentence(
    words: list[str], told: list[str], tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept.txt").write_text("kept")
    (tmp_path / "file").write_text("a file")
    (tmp_path / "script.py").write_text("print('must not run')\n")

    assert_one_sentence(ended(diagnose(*words), tmp_path), *told)

    assert not (tmp_path / "gradreach-runs").exists()
    assert (tmp_path / "full" / "kept.txt").read_text() == "kept"


def test_runs_of_the_same_second_get_folders_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "my script.py").write_text("print('ran')\n")
    command = [str(word) for word in diagnose("my script.py")]

    both = [
        subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.DEVNULL)
        for _ in range(2)
    ]

    assert [each.wait() for each in both] == [NOT_MEASURED, NOT_MEASURED]
    folders = list((tmp_path / "gradreach-runs").iterdir())
    assert len(folders) == 2
    for folder in folders:
        assert folder.name.startswith("my-script-")
        assert meta(folder)["state"] == "ended"


def test_script_without_recurrent_layer_is_told_so(tmp_path: Path) -> None:
    done, folder = watched(tmp_path, SCRIPTS / "no_recurrence.py")

    assert (done.code, codes(folder)) == (NOT_MEASURED, [])
    assert "no recurrent layer (nn.RNN, nn.GRU, nn.LSTM or their cells) was called" in done.said
    assert meta(folder)["trouble"] is None
    assert not (folder / "report.html").exists()


def test_json_is_all_there_is_on_standard_output(tmp_path: Path) -> None:
    """… also when the script writes from C and from a child; --steps ends it early."""
    options = ["--json", "--steps", 5]
    done, folder = watched(tmp_path, SCRIPTS / "noisy.py", options=options)

    told = json.loads(done.out)
    assert done.out.count(b"\n") == 1
    own = done.own_err.splitlines()
    assert own[:4] == ["from Python", "from the descriptor", "from C", "from a child"]
    # Its `finally` ran, and its `except Exception` saw nothing.
    assert own[4:] == ["cleaned up after step 4"]
    assert (told["state"], told["optimizer_steps"]) == ("stopped", 5)
    assert told["script"] == {"exit_code": 0, "signal": None}
    assert (told["schema_version"], told["exit_code"]) == (1, done.code)
    # Without an exit code of the script's own it is what was found that counts.
    grave = [each for each in told["findings"] if each["severity"] != "note"]
    assert done.code == (PROBLEM if grave else HEALTHY)
    assert "stopped after the steps asked for" in done.said
    assert told == {**meta(folder), "findings": told["findings"]}


def test_steps_are_counted_where_no_optimizer_makes_them(tmp_path: Path) -> None:
    options = ["--steps", 7, "--every", 3]
    done, folder = watched(tmp_path, SCRIPTS / "by_hand.py", 500, options=options)

    # The eighth pass is where the seventh update is known to be made; its own is not.
    assert len(done.out.splitlines()) == 7
    assert (meta(folder)["state"], meta(folder)["optimizer_steps"]) == ("stopped", 8)
    assert [flow["meta"]["pass"] for flow in flows(folder)] == [0, 1, 2, 3, 6]
    assert [flow["meta"]["step"] for flow in flows(folder)] == [0, 1, 2, 3, 6]


def test_needs_lag_decides_how_grave_a_short_reach_is(tmp_path: Path) -> None:
    script = SCRIPTS / "amp_scaler.py"  # of 21 steps it looks back 8
    options = ["--needs-lag", 20, "--steps", 3]
    done, folder = watched(tmp_path, script, options=options)

    told = json.loads((folder / "findings.json").read_text())["findings"]
    assert [(each["code"], each["severity"]) for each in told] == [("vanishing-gradient", "error")]
    assert done.code == PROBLEM
    assert "20 steps" in done.said


def until_it_trains(script: Path, tmp_path: Path) -> subprocess.Popen[bytes]:
    """Start a watched script that would run for minutes, and wait for its tenth step."""
    command = [str(word) for word in diagnose("--run", tmp_path / "run", script, 10**6)]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment(PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    for _ in range(10):
        assert process.stdout.readline()
    return process


def test_ctrl_c_ends_the_script_and_tells_what_was_found(tmp_path: Path) -> None:
    process = until_it_trains(SCRIPTS / "by_hand.py", tmp_path)

    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=60)[1].decode()

    assert process.returncode == INTERRUPTED
    assert "Traceback" not in err
    assert "The script was interrupted at by_hand.py:" in err.partition(RULE)[2]
    told = meta(tmp_path / "run")
    assert (told["state"], told["trouble"]) == ("ended", None)
    assert told["script"] == {"exit_code": INTERRUPTED, "signal": "SIGINT"}
    assert len(flows(tmp_path / "run")) == told["samples"] >= 3
    assert (tmp_path / "run" / "report.html").exists()


def test_sigterm_ends_it_as_python_and_leaves_a_readable_folder(tmp_path: Path) -> None:
    process = until_it_trains(SCRIPTS / "by_hand.py", tmp_path)

    process.terminate()
    err = process.communicate(timeout=60)[1].decode()

    assert (process.returncode, err) == (-signal.SIGTERM, "")
    folder = RunFolder.opened(tmp_path / "run")
    assert folder.read("meta.json")["state"] == "running"
    assert folder.read("findings.json")["findings"] == []
    for path in (folder.path / "flows").iterdir():  # whole, or not there
        assert folder.read(f"flows/{path.name}")["layers"]


def piped(command: list[object], tmp_path: Path, shell: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command within a shell line that ends ``"$@"``."""
    return subprocess.run(
        ["bash", "-c", shell, "bash", *map(str, command)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        check=False,
        timeout=100,
    )


def test_closed_pipe_ends_the_script_as_under_python(tmp_path: Path) -> None:
    shell = 'set +e; "$@" | head -1 >/dev/null; exit ${PIPESTATUS[0]}'
    script = SCRIPTS / "ending.py"

    plain = piped([sys.executable, script, "many"], tmp_path, shell)
    found = piped(diagnose("--run", tmp_path / "run", script, "many"), tmp_path, shell)

    assert found.returncode == plain.returncode
    own, _, said = found.stderr.decode().partition(RULE)
    assert "BrokenPipeError" in own  # the script's own
    # What Python says of the handlers at exit comes after us.
    assert plain.stderr.decode() == own + said.partition("never imported torch.\n")[2]
    assert "ended with exit code 1" in said
    assert meta(tmp_path / "run")["state"] == "ended"


def test_closed_pipe_met_at_the_end_is_told_by_the_exit_code_alone(tmp_path: Path) -> None:
    (tmp_path / "quiet.py").write_text("import time\ntime.sleep(1)\nprint('into a closed pipe')\n")
    command = diagnose("--run", tmp_path / "run", "quiet.py")

    found = piped(command, tmp_path, '"$@" | true; exit ${PIPESTATUS[0]}')

    assert found.returncode == READER_GONE
    assert found.stderr.decode().startswith(RULE)
    assert "BrokenPipe" not in found.stderr.decode()


@pytest.mark.parametrize("closed", ["2>&-", ">&-", ">&- 2>&-", "2>/dev/full"])
def test_closed_streams_disturb_nobody(closed: str, tmp_path: Path) -> None:
    command = diagnose("--run", tmp_path / "run", SCRIPTS / "ending.py", "plain")

    found = piped(command, tmp_path, f'"$@" {closed}')

    assert found.returncode == NOT_MEASURED
    assert "Traceback" not in found.stderr.decode()
    assert meta(tmp_path / "run")["state"] == "ended"
    assert (b"ended" in found.stdout) == (">&-" not in closed.split())


def test_json_without_the_streams_it_needs_is_a_usage_error(tmp_path: Path) -> None:
    command = diagnose("--json", "--run", tmp_path / "run", SCRIPTS / "ending.py", "plain")

    found = piped(command, tmp_path, '"$@" >&-')

    assert found.returncode == USAGE
    assert "--json needs" in found.stderr.decode()


def test_file_names_need_not_be_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"na\xefve.py")
    (tmp_path / name).write_text("print('ran')\n")

    done = ended(diagnose("--json", name, os.fsdecode(b"\xff")), tmp_path)

    assert done.code == NOT_MEASURED
    assert json.loads(done.out)["command"] == [name, os.fsdecode(b"\xff")]
    assert "Traceback" not in done.err


def test_watching_starts_no_earlier_than_torch(tmp_path: Path) -> None:
    """What costs a second is imported only where there is something to watch."""
    (tmp_path / "empty.py").write_text("import sys\nprint(*sorted(sys.modules))\n")

    started = time.perf_counter()
    done = ended(diagnose("empty.py"), tmp_path)

    assert not {b"torch", b"numpy", b"jinja2", b"rich"} & set(done.out.split())
    assert time.perf_counter() - started < 20  # it hangs on nothing
