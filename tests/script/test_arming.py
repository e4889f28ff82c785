"""We act once, right after the script's own import, and leave no trace in the import system."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

from gradreach.script.arming import after_import

NAME = "gradreach_test_late"


@pytest.fixture(autouse=True)
def late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module that can be imported, and whose import may be made to fail."""
    source = tmp_path / f"{NAME}.py"
    source.write_text("import os\nif os.environ.get('FAIL'): raise OSError('no')\nvalue = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    finders = list(sys.meta_path)
    yield source
    sys.meta_path[:] = finders
    sys.modules.pop(NAME, None)


def test_act_comes_after_the_import_and_the_module_is_as_ever() -> None:
    acted: list[object] = []
    after_import(NAME, lambda: acted.append(sys.modules[NAME].value))

    module = importlib.import_module(NAME)

    assert acted == [1]
    assert type(module.__loader__) is SourceFileLoader
    assert module.__spec__ is not None
    assert module.__spec__.loader is module.__loader__
    assert not any(type(finder).__module__.startswith("gradreach.") for finder in sys.meta_path)
    importlib.reload(module)
    assert acted == [1]


def test_looking_whether_it_is_there_is_no_import() -> None:
    acted: list[int] = []
    after_import(NAME, lambda: acted.append(1))

    for _ in range(2):
        assert importlib.util.find_spec(NAME) is not None
    assert acted == []
    importlib.import_module(NAME)

    assert acted == [1]


def test_import_that_fails_is_waited_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    acted: list[int] = []
    after_import(NAME, lambda: acted.append(1))

    monkeypatch.setenv("FAIL", "1")
    with pytest.raises(OSError, match="no"):
        importlib.import_module(NAME)
    assert acted == []
    monkeypatch.delenv("FAIL")
    importlib.import_module(NAME)

    assert acted == [1]


def test_what_is_imported_already_is_acted_on_at_once() -> None:
    acted: list[int] = []
    after_import("sys", lambda: acted.append(1))

    assert acted == [1]


def test_module_that_does_not_exist_is_missing_as_ever() -> None:
    after_import("no_such_module_at_all", lambda: None)

    with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
        importlib.import_module("no_such_module_at_all")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_child_that_imports_for_itself_is_not_acted_in() -> None:
    acted: list[int] = []
    after_import(NAME, lambda: acted.append(1))

    pid = os.fork()
    if pid == 0:
        importlib.import_module(NAME)
        os._exit(len(acted))

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
