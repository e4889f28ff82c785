"""The first screen of the README: two commands that exist, then what the first one prints."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DEV = ROOT / "dev"


def dev(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, DEV, *arguments], capture_output=True, text=True, check=False
    )


def commands_in(text: str) -> set[str]:
    return set(re.findall(r"\./dev ([a-z]+)", text))


def test_first_two_commands_are_demo_and_test():
    block = re.search(r"```sh\n(.*?)```", README, re.DOTALL)

    assert block is not None
    assert re.findall(r"^\./dev (\w+)", block[1], re.MULTILINE) == ["demo", "test"]


@pytest.mark.parametrize("name", sorted(commands_in(README)))
def test_command_named_in_the_readme_exists(name):
    done = dev("--help")

    assert done.returncode == 0
    assert re.search(rf"^    {name}\b", done.stdout, re.MULTILINE)
    # The help is the file's docstring; the table of commands is what really runs.
    assert re.search(rf"^COMMANDS = .*\b{name}\b", DEV.read_text(), re.MULTILINE)


def test_unknown_command_is_a_usage_error():
    done = dev("no-such-command")

    assert done.returncode == 2
    assert "./dev COMMAND" in done.stderr


def test_commands_and_output_stand_on_the_first_screen():
    lines = README.splitlines()

    assert lines.index("<!-- demo-output -->") < 40
    assert "<!-- /demo-output -->" in lines
    assert DEV.stat().st_mode & 0o111


def test_continuous_integration_runs_what_developers_run():
    script = (ROOT / ".ci" / "run").read_text()

    lines = [line for line in script.splitlines() if line and not line.startswith("#")]
    assert lines[-1] == "exec ./dev ci"
