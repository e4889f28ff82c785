"""What may not stand in the source: rooms without an idea, endless files, dangerous calls."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import gradreach

PACKAGE = Path(gradreach.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
NO_IDEA = {"utils", "util", "common", "helpers", "helper", "misc"}

# Each runs what it reads. Data of gradreach is JSON lines and safetensors.
EXECUTING_MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
}
EXECUTING_CALLS = {"eval", "exec", "torch.load", "np.load", "numpy.load", "os.system", "os.popen"}

# `gradreach diagnose train.py` runs the user's own program: the one room that may execute a file.
RUNS_USER_SCRIPTS = "script"


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0]


def violations(source: str, *, may_exec: bool = False) -> list[str]:
    """List the dangerous imports and calls in a piece of source, with their lines."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        if isinstance(node, ast.Import | ast.ImportFrom):
            dangerous = [
                name
                for name in names
                if name.partition(".")[0] in EXECUTING_MODULES or name in EXECUTING_CALLS
            ]
            found += [f"line {node.lineno}: import of {name}" for name in dangerous[:1]]
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in EXECUTING_CALLS and not (may_exec and called == "exec"):
                found.append(f"line {node.lineno}: {called}()")
            found += [
                f"line {node.lineno}: shell=True"
                for keyword in node.keywords
                if keyword.arg == "shell" and ast.unparse(keyword.value) != "False"
            ]
    return found


def test_modules_are_found():
    assert PACKAGE / "errors.py" in MODULES


def test_no_module_is_named_after_no_idea():
    assert [path for path in MODULES if path.stem in NO_IDEA or path.parent.name in NO_IDEA] == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_module_stays_within_400_lines_unless_its_first_line_says_why(path):
    lines = path.read_text().splitlines()

    assert len(lines) <= 600
    # The reason is spelt out in the first line: `"""… (long because …)`.
    assert len(lines) <= 400 or "because" in lines[0]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_module_begins_with_a_docstring_and_lazy_annotations(path):
    tree = ast.parse(path.read_text())

    assert ast.get_docstring(tree)
    if len(tree.body) > 1:
        assert ast.unparse(tree.body[1]) == "from __future__ import annotations"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_module_executes_no_data(path):
    found = violations(path.read_text(), may_exec=room(path) == RUNS_USER_SCRIPTS)

    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import cloudpickle.compat",
        "eval('1')",
        "exec(code)",
        "import torch\ntorch.load('a.pt')",
        "from torch import load",
        "import os\nos.system('ls')",
        "run('ls', shell=True)",
        "run('ls', shell=flag)",
    ],
)
def test_dangerous_source_is_seen(source):
    assert len(violations(source)) == 1


@pytest.mark.parametrize("source", ["model.eval()", "run(['ls'], shell=False)", "x.load(path)"])
def test_harmless_source_is_left_alone(source):
    assert violations(source) == []


def test_every_folder_with_modules_is_a_package():
    folders = {path.parent for path in MODULES}

    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_package_says_that_it_is_typed():
    assert (PACKAGE / "py.typed").exists()
