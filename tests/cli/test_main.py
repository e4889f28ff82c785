"""The command line as a process: quick help, exit codes, one sentence instead of a traceback."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import gradreach
from gradreach.cli import COMMANDS, main
from gradreach.cli.ending import EndingGroup
from gradreach.cli.info import gathered_info
from gradreach.cli.lazy_group import LazyGroup
from gradreach.errors import NotMeasurableError
from gradreach.runs.files import WriteError

# The goal is 0.15 s; three times that is what a shared machine may add.
HELP_SECONDS = 0.45

# PYTHONUNBUFFERED would make Python lose the rest of a large write, and with it the error.
ASKED = ("NO_COLOR", "FORCE_COLOR", "PYTHONUNBUFFERED", "PYTHONIOENCODING", "PYTHONUTF8")
BARE = {key: value for key, value in os.environ.items() if key not in ASKED}
ENVIRONMENT = {**BARE, "PYTHONPATH": str(Path(gradreach.__file__).parents[1])}


def run(*arguments, options=(), **environment):
    command = [sys.executable, *options, "-m", "gradreach", *arguments]
    return subprocess.run(
        command, capture_output=True, check=False, env={**ENVIRONMENT, **environment}
    )


@pytest.fixture
def ending():
    """A top group like ours, with one command for each way to end."""
    group = EndingGroup("gradreach")

    def ends(name, error=None, result=None):
        @group.command(name)
        def command():
            if error is not None:
                raise error
            return result

    ends("healthy")
    ends("problem", result=1)
    ends("passed-on", result=77)
    ends("unmeasurable", NotMeasurableError("measure(): no\nlayer:  pass another"))
    ends("unwritable", WriteError("cannot write 'a': the disk is full"))
    ends("wrong", click.UsageError("not like this"))
    ends("interrupted", KeyboardInterrupt())
    ends("bug", RuntimeError("a bug"))
    return group


def test_help_imports_nothing_heavy_and_is_quick():
    resource = pytest.importorskip("resource")
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = run("--help", options=["-X", "importtime"])
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)

    imported = set(re.findall(r"\|\s+([\w.]+)$", done.stderr.decode(), re.MULTILINE))
    assert "click" in imported
    assert not {"torch", "numpy", "jinja2", "rich", "gradreach.cli.demo"} & imported
    # Processor time, not wall time: other processes on the machine do not count.
    assert min(spent) < HELP_SECONDS


@pytest.mark.parametrize("arguments", [["demo", "--help"], ["explain", "--help"], ["nonsense"]])
def test_help_of_a_command_does_not_wait_for_torch(arguments):
    done = run(*arguments, options=["-X", "importtime"])

    assert b"Usage: " in done.stdout + done.stderr
    assert not re.search(rb"\|\s+torch$", done.stderr, re.MULTILINE)


def test_help_lists_every_command_with_the_first_line_of_its_own_help():
    listed = CliRunner().invoke(main, ["--help"], terminal_width=120).output
    # With its settings, as click runs it: the first context fixes the group's help option.
    context = click.Context(main, **main.context_settings)

    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert isinstance(command, click.Command)
        line = command.get_short_help_str(200)
        assert re.search(rf"^  {name} +{re.escape(line)}$", listed, re.MULTILINE)
    assert set(main.list_commands(context)) == set(COMMANDS)


def test_command_whose_module_is_not_installed_is_no_command():
    group = LazyGroup("g", lazy={"gone": ("gradreach.cli.no_such_module:gone", "Go.")})

    assert group.list_commands(click.Context(group)) == []
    assert CliRunner().invoke(group, ["gone"]).exit_code == 2


def test_table_naming_something_else_is_told():
    group = LazyGroup("g", lazy={"pi": ("math:pi", "A number.")})

    with pytest.raises(TypeError, match=r"math:pi must be a click command; it is 3\.14"):
        group.get_command(click.Context(group), "pi")


def test_version_is_that_of_the_package():
    assert CliRunner().invoke(main, ["--version"]).output == f"gradreach {gradreach.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["healthy"], 0, ""),
        (["--help"], 0, ""),
        (["problem"], 1, ""),
        (["passed-on"], 77, ""),
        (["wrong"], 2, "Error: not like this"),
        (["nonsense"], 2, "No such command 'nonsense'"),
        (["--nonsense"], 2, "No such option"),
        (["healthy", "--nonsense"], 2, "No such option"),
        (["unmeasurable"], 3, "Error: measure(): no layer: pass another\n"),
        (["unwritable"], 3, "Error: cannot write 'a': the disk is full\n"),
        (["interrupted"], 130, "Interrupted.\n"),
    ],
)
def test_exit_code_says_how_it_ended(ending, arguments, code, said):
    result = CliRunner().invoke(ending, arguments)

    assert result.exit_code == code
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    if code == 3:
        assert result.stderr == said


def test_bug_shows_its_traceback(ending):
    result = CliRunner().invoke(ending, ["bug"])

    assert isinstance(result.exception, RuntimeError)


def test_no_command_prints_the_help_as_a_usage_error():
    done = run()

    assert done.returncode == 2
    assert b"Commands:" in done.stdout + done.stderr


def test_closed_pipe_ends_quietly():
    command = [sys.executable, "-m", "gradreach", "demo", "smallest", "--every-step"]
    with subprocess.Popen(
        [*command, "-T", "400", "--seed", "0", "--epochs", "1"],  # some 300 KB: no pipe holds it
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    ) as process:
        process.stdout.read(1)
        process.stdout.close()
        said = process.stderr.read()

    assert process.returncode == 141
    assert said == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="machine lacks /dev/full")
def test_full_disk_behind_standard_output_is_told():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "gradreach", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            env=ENVIRONMENT,
        )

    assert done.returncode == 3
    assert done.stderr == b"Error: standard output cannot be written: the disk is full\n"


def test_interruption_by_a_person_ends_with_130(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "gradreach", "demo", "--steps", "100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=ENVIRONMENT,
    ) as process:
        while not process.stdout.readline().startswith(b"2  "):  # the long part has begun
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        try:
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()  # or an unheeded interrupt would hang the whole suite

    assert process.returncode == 130
    assert said.strip() == b"Interrupted."


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
def test_any_character_set_can_show_the_output(encoding):
    done = run(
        "demo",
        "smallest",
        "--seed",
        "0",
        "--epochs",
        "5",
        PYTHONIOENCODING=encoding,
        PYTHONUTF8="0",
    )

    assert done.returncode == 0, done.stderr
    text = done.stdout.decode(encoding)
    assert "sum c_k = " in text or "Σ c_k = " in text
    assert "?" not in text


def test_script_finds_standard_output_as_it_was(ending, monkeypatch):
    # What a script may not print under `python`, it may not print under gradreach either.
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", stream)
    ending.running_scripts = {"healthy"}
    seen = []
    ending.commands["healthy"].callback = lambda: seen.append((stream.encoding, stream.errors))
    ending.commands["problem"].callback = lambda: seen.append((stream.encoding, stream.errors))

    for name in ("healthy", "problem"):
        with pytest.raises(SystemExit):
            ending.main([name])

    assert seen == [("ascii", "strict"), ("gradreach-ascii", "gradreach-nearest")]


def test_output_without_a_terminal_has_no_colour():
    done = run("demo", "smallest", "--seed", "0", "--epochs", "5")

    assert b"\x1b" not in done.stdout + done.stderr


def test_info_tells_the_versions_that_run():
    import torch

    told = dict(
        line.split(maxsplit=1) for line in CliRunner().invoke(main, ["info"]).output.splitlines()
    )

    assert told["gradreach"] == gradreach.__version__
    assert told["torch"] == torch.__version__
    assert told["python"] == ".".join(map(str, sys.version_info[:3]))
    assert told["kernels"] == gathered_info()["kernels"]


def test_info_as_json_is_one_object():
    import json

    told = json.loads(CliRunner().invoke(main, ["info", "--json"]).output)

    assert told == {"schema_version": 1, **gathered_info()}


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_takes_the_short_help_option_however_it_is_called(name):
    """Click settles it by the first call; a command invoked alone must not decide otherwise."""
    command = main.get_command(click.Context(main), name)

    alone = CliRunner().invoke(command, ["-h"])

    assert alone.exit_code == 0
    assert "-h, --help" in alone.output
