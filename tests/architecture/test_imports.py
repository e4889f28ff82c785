"""Imports point down only, and `import gradreach` does nothing but define names."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

import gradreach

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {
    re.split(r"[\s<>=!~\[]", requirement)[0].replace("-", "_").lower()
    for extra in PROJECT["optional-dependencies"].values()
    for requirement in extra
}
BASE = {re.split(r"[\s<>=!~\[]", name)[0].replace("-", "_") for name in PROJECT["dependencies"]}


def run_python(code: str, cwd: Path) -> str:
    """Run code in a fresh interpreter that finds the package where this one found it."""
    environment = {**os.environ, "PYTHONPATH": str(Path(gradreach.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_layers_import_only_what_lies_below_them(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)

    code = lint_imports(config_filename="pyproject.toml", no_cache=True)

    assert code == 0, capsys.readouterr().out


def test_contract_sees_an_import_that_points_up(monkeypatch, capsys, tmp_path):
    # The check above is only worth something if the same contract can fail. Another name keeps
    # the sample apart from the installed package.
    (tmp_path / "sample").mkdir()
    (tmp_path / "sample" / "__init__.py").touch()
    (tmp_path / "sample" / "errors.py").write_text("from sample import records\n")
    (tmp_path / "sample" / "records.py").touch()
    config = (ROOT / "pyproject.toml").read_text().replace("gradreach", "sample")
    (tmp_path / "pyproject.toml").write_text(config)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    code = lint_imports(config_filename="pyproject.toml", no_cache=True)

    assert code == 1
    assert "sample.errors is not allowed to import sample.records" in capsys.readouterr().out


def test_import_gradreach_imports_no_dependency_and_has_no_side_effect(tmp_path):
    code = """
import json, os, sys, threading, warnings
def state():
    return [dict(os.environ), os.getcwd(), threading.active_count(), len(warnings.filters),
            repr(sys.excepthook), sys.path[:]]
names, before = set(sys.modules), state()
import gradreach
dir(gradreach)
changed = [a for a, b in zip(before, state()) if a != b]
print(json.dumps({"new": sorted(set(sys.modules) - names), "changed": changed}))
"""

    output = run_python(code, tmp_path)

    seen = json.loads(output)  # also proves that nothing else was printed
    roots = {name.partition(".")[0] for name in seen["new"]}
    assert not roots & (BASE | EXTRAS)
    assert [name for name in seen["new"] if name.startswith("gradreach.")] == []
    assert seen["changed"] == []
    assert list(tmp_path.iterdir()) == []


def test_measuring_imports_no_extra(tmp_path):
    code = "import sys, gradreach; gradreach.measure; print(*sys.modules)"

    loaded = {name.partition(".")[0] for name in run_python(code, tmp_path).split()}

    assert "torch" in loaded
    assert not loaded & EXTRAS


@pytest.mark.parametrize("name", gradreach.__all__)
def test_public_name_resolves(name):
    value = getattr(gradreach, name)

    assert value is getattr(gradreach, name)
    assert name in dir(gradreach)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'gradreach' has no attribute 'mesure'"):
        gradreach.mesure  # noqa: B018


def test_names_for_type_checkers_are_the_names_of_the_table():
    tree = ast.parse(Path(gradreach.__file__).read_text())
    block = next(
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    declared = {
        name.asname: f"{line.module}.{name.asname}" if line.module == "gradreach" else line.module
        for line in block.body
        if isinstance(line, ast.ImportFrom)
        for name in line.names
    }

    assert declared == gradreach._EXPORTS


def test_version_stands_in_one_place():
    installed = importlib.metadata.version("gradreach")

    assert installed == gradreach.__version__
    assert "version" in PROJECT["dynamic"]
