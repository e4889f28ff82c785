"""The native core's borders: what its sources include, and what its binary shows."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gradreach.kernels.native import core

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for path in (ROOT / "csrc").rglob("*") if path.suffix in (".cc", ".h"))
BUILT = ROOT / "build" / "native" / "CMakeFiles"


@pytest.fixture
def symbols(lacks):
    """List the symbols of a binary as (kind, demangled name)."""
    nm = shutil.which("nm") or lacks("nm")

    def symbols(*arguments: str | Path) -> list[tuple[str, str]]:
        lines = subprocess.check_output([nm, "-C", *arguments], text=True).splitlines()
        found = [re.fullmatch(r"\S*\s+(\w) (.*)", line) for line in lines]
        return [match.groups() for match in found if match]

    return symbols


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_only_the_bindings_know_python_and_nothing_knows_torch(path):
    foreign = re.findall(
        r"#include\s*[<\"]((?:nanobind|torch|ATen|c10|Python).*)[>\"]", path.read_text()
    )

    assert foreign == [] or path.name.startswith("bind")
    assert not [name for name in foreign if not name.startswith("nanobind/")]


def test_core_shows_nothing_of_its_own_but_its_entry(symbols, lacks):
    module = core.load() or lacks(f"a native core: {core.why_not_loaded()}")

    shown = [name for _, name in symbols("-D", "--defined-only", module.__file__)]

    assert "PyInit__native" in shown
    # What the standard library and nanobind declare visible stays so; loaders keep it local.
    assert [name for name in shown if "gradreach" in name] == []


@pytest.mark.parametrize("isa", ["avx2", "avx512"])
def test_wide_kernels_share_no_inline_function_with_the_rest(symbols, lacks, isa):
    # A weak symbol is kept once for the whole core. One compiled with wide registers could be
    # the copy that an older processor, running the baseline, would call.
    compiled = BUILT / f"gradreach_{isa}.dir" / "csrc" / "kernels.cc.o"
    if not compiled.exists():
        lacks(f"the objects of ./dev build for {isa}")

    weak = [name for kind, name in symbols("--defined-only", compiled) if kind in "WVu"]

    assert [name for name in weak if f"gradreach::{isa}::" not in name] == []
