"""A script is started, and ends, as Python would start and end it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.script.twins import SCRIPTS, ended, environment, meta, twins, watched

ENDINGS = [
    ("code", 0), ("code", 3), ("code", -1), ("code", 256), ("code", "None"), ("string",),
    ("raise",), ("chained",), ("group",), ("hook",), ("broken-hook",), ("import",), ("warn",),
    ("plain", "--help", "-x", "--", "a b", "*", "--every", "3"),
]  # fmt: skip
NOT_MEASURED = 3


@pytest.mark.parametrize("words", ENDINGS, ids=lambda words: "-".join(map(str, words)))
def test_script_ends_as_under_python(words: tuple[object, ...], tmp_path: Path) -> None:
    both = twins(tmp_path, SCRIPTS / "ending.py", *words)

    both.assert_same()
    assert both.watched.own_err == both.plain.err
    assert both.watched.code == (both.plain.code or NOT_MEASURED)
    assert "never imported torch" in both.watched.said
    assert meta(both.folder)["script"]["exit_code"] == both.plain.code


def test_script_that_leaves_at_once_leaves_a_readable_folder(tmp_path: Path) -> None:
    both = twins(tmp_path, SCRIPTS / "ending.py", "hard")

    assert (both.watched.code, both.watched.out) == (5, both.plain.out)
    assert meta(both.folder)["state"] == "running"


def test_script_that_replaces_and_closes_its_streams_keeps_its_files(tmp_path: Path) -> None:
    both = twins(tmp_path, SCRIPTS / "ending.py", "stdout")

    both.assert_same()
    assert both.watched.files["errors.txt"] == both.plain.files["errors.txt"]
    assert both.watched.code == both.plain.code == 1  # it prints into what it has closed
    assert "never imported torch" in both.watched.said  # on the standard error we were given


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_script_fails_where_its_terminal_lacks_a_character(encoding: str, tmp_path: Path) -> None:
    env = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    both = twins(tmp_path, SCRIPTS / "ending.py", "encoding", env=env)

    assert both.plain.code == both.watched.code == 1
    assert "UnicodeEncodeError" in both.watched.err
    assert "\\u2500" not in both.watched.err  # we find the nearest character instead


@pytest.mark.parametrize(
    "script",
    ["sub/house.py", "./sub/house.py", "sub/../sub/house.py", "linked.py"],
)
def test_script_is_found_where_the_user_said(script: str, tmp_path: Path) -> None:
    place = tmp_path / "run"
    for name in ("run", "plain"):
        (tmp_path / name / "sub").mkdir(parents=True)
        for file in ("sibling.py", "ending.py"):
            (tmp_path / name / "sub" / file).write_bytes((SCRIPTS / file).read_bytes())
        source = "import sys, os, sibling\nprint(__file__, sys.argv, sys.path[0], os.getcwd())\n"
        (tmp_path / name / "sub" / "house.py").write_text(source)
        (tmp_path / name / "linked.py").symlink_to("sub/house.py")

    plain = ended([sys.executable, script], place)
    found, _ = watched(tmp_path, script)

    assert plain.code == 0
    assert found.out == plain.out


@pytest.mark.parametrize(
    "source",
    ["x = (1,\n", "def f():\nreturn 1\n", "x = 1\n\tif x:\n", "print('a'\nprint('b')\n"],
    ids=["open", "indent", "tab", "paren"],
)
def test_syntax_error_is_shown_as_python_shows_it(source: str, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(source)

    both = twins(tmp_path, tmp_path / "bad.py")

    assert both.watched.own_err == both.plain.err
    assert both.plain.err.startswith("  File ")  # no frames, of Python's or of ours
    assert both.watched.code == both.plain.code == 1


def test_everything_a_script_may_ask_for_is_as_under_python(tmp_path: Path) -> None:
    # Two threads are allowed, and the script itself allows one before it imports torch.
    script, words = SCRIPTS / "house.py", ("7", "spawn", "fork")
    both = twins(tmp_path, script, *words, options=["--every", 2], env={"OMP_NUM_THREADS": "2"})

    both.assert_same()
    assert b"threads 1" in both.plain.out
    assert (both.plain.code, both.watched.code) == (7, 7)
    assert both.watched.own_err == both.plain.err == ""
    # The children that were forked and spawned trained as well, and are not in our numbers.
    assert (meta(both.folder)["passes"], meta(both.folder)["trouble"]) == (4, None)
    assert both.watched.err.count("── gradreach ─") == 1


def test_safe_path_is_respected(tmp_path: Path) -> None:
    (tmp_path / "asks.py").write_text("import sys\nprint(sys.path)\n")
    command = [sys.executable, "-P", tmp_path / "asks.py"]
    ours = [sys.executable, "-P", "-m", "gradreach", "diagnose", tmp_path / "asks.py"]

    plain = ended(command, tmp_path / "run")
    found = ended(ours, tmp_path / "run")

    assert found.out == plain.out
    assert environment()["PYTHONPATH"].split(":")[0].encode() in found.out
