"""Runs a script twice: as Python runs it, and under `gradreach diagnose`, in the same place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradreach

SCRIPTS = Path(__file__).parents[1] / "scripts"
SOURCE = str(Path(gradreach.__file__).parents[1])  # the package that is tested, wherever we are
RULE = "── gradreach ─"  # what we have to say begins here
LIMIT = 110  # seconds; below the suite's own limit, so that what hangs is named


@dataclass(frozen=True)
class Ended:
    """A process that has ended, and the files it left."""

    code: int
    out: bytes
    err: str
    files: dict[str, bytes]

    @property
    def said(self) -> str:
        """What gradreach said, its lines joined: they are wrapped to a width."""
        return " ".join(self.err.partition(RULE)[2].split())

    @property
    def own_err(self) -> str:
        """What the script itself wrote to standard error."""
        return self.err.partition(RULE)[0]


@dataclass(frozen=True)
class Twins:
    """The two runs of a script; ``folder`` is the run folder of the watched one."""

    plain: Ended
    watched: Ended
    folder: Path

    def assert_same(self) -> None:
        """Assert that nothing the script did can be told from its run without us."""
        assert self.watched.out == self.plain.out
        assert self.watched.files.keys() == self.plain.files.keys()
        for name, content in self.plain.files.items():
            assert self.watched.files[name] == content, f"{name} differs"


def environment(**changes: str) -> dict[str, str]:
    """Return the environment of a run; both runs of a script get the same."""
    paths = [SOURCE, os.environ.get("PYTHONPATH", "")]
    own = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
    own |= {"NO_COLOR": "1", "PYTHONUTF8": "1"}
    # With buffers, as users have it: their order of output is what we might disturb.
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    return {**inherited, **own, **changes}


def ended(
    command: Sequence[object], folder: Path, env: Mapping[str, str] | None = None, **options: Any
) -> Ended:
    """Run a command in a folder, to its end."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=environment(**(env or {})),
        capture_output=True,
        timeout=LIMIT,
        check=False,
        **options,
    )
    files = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    return Ended(done.returncode, done.stdout, done.stderr.decode(), files)


def diagnose(*words: object) -> list[object]:
    """Return the command ``gradreach diagnose …``."""
    return [sys.executable, "-m", "gradreach", "diagnose", *words]


def watched(
    place: Path,
    script: object,
    *arguments: object,
    options: Sequence[object] = (),
    env: Mapping[str, str] | None = None,
) -> tuple[Ended, Path]:
    """Run a script under ``diagnose``; return how it ended, and its run folder."""
    folder = place / "gradreach-run"
    command = diagnose("--run", folder, *options, script, *arguments)
    return ended(command, place / "run", env), folder


def twins(
    place: Path,
    script: object,
    *arguments: object,
    options: Sequence[object] = (),
    env: Mapping[str, str] | None = None,
) -> Twins:
    """Run a script both ways, in a folder of the same name."""
    plain = ended([sys.executable, script, *arguments], place / "run", env)
    (place / "run").rename(place / "plain")
    second, folder = watched(place, script, *arguments, options=options, env=env)
    return Twins(plain, second, folder)


def flows(folder: Path) -> list[dict[str, Any]]:
    """Return the gradient flows of a run folder, in the order of the passes."""
    return [json.loads(path.read_text()) for path in sorted((folder / "flows").iterdir())]


def meta(folder: Path) -> dict[str, Any]:
    """Return a run's ``meta.json``."""
    loaded: dict[str, Any] = json.loads((folder / "meta.json").read_text())
    return loaded


def codes(folder: Path) -> list[str]:
    """Return the codes of a run's findings."""
    return [each["code"] for each in json.loads((folder / "findings.json").read_text())["findings"]]
