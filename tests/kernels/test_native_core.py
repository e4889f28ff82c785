"""The compiled core: which one is loaded, on which instruction set and threads, and why not."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from gradreach import kernels
from gradreach.kernels.native import core
from gradreach.kernels.status import KernelStatus

STUB = Path(kernels.__file__).with_name("_native.pyi")

TELL = """
import json
from gradreach.kernels import status
print(json.dumps(status().to_dict()))
"""

BROKEN = """
import importlib.util, sys

class Broken:
    def find_spec(name, path=None, target=None):
        if name == "gradreach.kernels._native":
            return importlib.util.spec_from_file_location(name, sys.argv[1])

sys.meta_path.insert(0, Broken)
"""

MISSING = """
import sys
sys.modules["gradreach.kernels._native"] = None  # Python's own way to say: not there
"""


@pytest.fixture
def native(lacks):
    return core.load() or lacks(f"a native core: {core.why_not_loaded()}")


@pytest.fixture
def run(monkeypatch):
    """Run Python code in a process of its own, with GRADREACH_ISA set as given."""

    def run(code: str, *arguments: str, isa: str | None = None) -> subprocess.CompletedProcess:
        monkeypatch.delenv("GRADREACH_ISA", raising=False)
        if isa is not None:
            monkeypatch.setenv("GRADREACH_ISA", isa)
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


def told(done: subprocess.CompletedProcess) -> KernelStatus:
    assert done.returncode == 0, done.stderr
    return KernelStatus(**json.loads(done.stdout))


def test_stub_declares_what_the_module_has(native):
    declared = {}
    for node in ast.parse(STUB.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            declared[node.name] = [argument.arg for argument in node.args.args]
        elif isinstance(node, ast.ClassDef):
            declared[node.name] = sorted(m.name for m in node.body if m.name != "__init__")
        elif isinstance(node, ast.AnnAssign):
            declared[node.target.id] = node.annotation.id

    assert {name: told_of(getattr(native, name)) for name in public(native)} == declared


def public(thing) -> list[str]:
    return sorted(name for name in dir(thing) if not name.startswith("_"))


def told_of(value) -> list[str] | str:
    """Return a function's arguments, a class's members, or a constant's type."""
    if isinstance(value, type):
        return public(value)
    if not callable(value):
        return type(value).__name__
    # The first line of a bound function's docstring is its signature, as Python would write it.
    (defined,) = ast.parse(f"def {value.__doc__.splitlines()[0]}: ...").body
    return [argument.arg for argument in (*defined.args.args, *defined.args.kwonlyargs)]


@pytest.mark.parametrize("isa", core.INSTRUCTION_SETS)
def test_instruction_set_is_the_one_the_environment_names(native, run, isa):
    done = run(TELL, isa=isa)

    if native.isa_supported(isa):
        assert told(done).isa == isa
    else:
        assert f"GRADREACH_ISA is {isa!r}, but the native core has only" in done.stderr


def test_best_supported_instruction_set_is_chosen(native, run):
    best = next(isa for isa in native.compiled_isas() if native.isa_supported(isa))

    status = told(run(TELL))

    assert status.path == "native"
    assert status.isa == best
    assert status.compiled == native.compiled_isas()
    assert status.compiled[-1] == "baseline"
    assert status.why_not_native is None


def test_unknown_instruction_set_is_refused_and_nothing_changes(native):
    before = native.isa()

    assert not native.isa_supported("sse9")
    assert not native.use_isa("sse9")

    assert native.isa() == before


def test_reference_can_be_forced(run):
    status = told(run(TELL, isa="reference"))

    assert status.path == "reference"
    assert status.isa is None
    assert status.why_not_native == "the native core is switched off by GRADREACH_ISA=reference"


def test_misspelt_setting_is_one_sentence_at_each_use_and_not_at_import(run):
    code = """
import gradreach.kernels.native.core as core
for _ in range(2):
    try:
        core.load()
    except ValueError as error:
        print(error)
"""

    done = run(code, isa="avx-512")

    assert done.stdout.splitlines() == 2 * [
        "The environment variable GRADREACH_ISA is 'avx-512', but it names what the kernels run "
        "on: set it to one of avx512, avx2, baseline, reference, or unset it."
    ]


def test_empty_setting_is_none(run):
    assert told(run(TELL, isa="")) == told(run(TELL))


def test_missing_core_is_told_with_its_cause(run):
    status = told(run(MISSING + TELL))

    assert status.path == "reference"
    assert status.why_not_native.startswith("the native core is not built")


def test_asking_for_an_instruction_set_without_a_core_is_an_error(run):
    done = run(MISSING + TELL, isa="avx2")

    assert "GRADREACH_ISA is 'avx2', but the native core is not built" in done.stderr


def test_core_that_cannot_be_loaded_is_told_in_the_loaders_words(run, tmp_path):
    broken = tmp_path / "_native.so"
    broken.write_bytes(b"\x7fELF, and no more")

    status = told(run(BROKEN + TELL, str(broken)))

    assert status.path == "reference"
    assert status.why_not_native.startswith("the native core is built but cannot be loaded (")
    assert str(broken) in status.why_not_native


def test_core_runs_on_the_threads_of_torch(native, run):
    status = told(run("import torch\ntorch.set_num_threads(1)" + TELL))

    assert status.warning is None
    assert status.threads == 1
    if sys.platform == "linux":
        assert Path(status.openmp).exists()
        assert native.openmp_runtime_of("libtorch_cpu.so") == native.own_openmp_runtime()


def test_library_that_is_not_loaded_has_no_runtime(native):
    assert native.openmp_runtime_of("libnone.so") == ""


def test_second_runtime_is_told_as_a_warning():
    from gradreach.kernels.status import _slower

    assert _slower(True, "/a/libgomp.so.1", "/a/libgomp.so.1") is None
    assert "/b/libomp.so beside torch's /a/libgomp.so.1" in _slower(
        True, "/b/libomp.so", "/a/libgomp.so.1"
    )
    assert "without OpenMP" in _slower(False, "", "/a/libgomp.so.1")


def test_sentence_of_the_reference_path_says_why():
    status = KernelStatus(path="reference", threads=1, why_not_native="no reason")

    assert str(status) == "reference (plain torch), 1 thread: no reason"


def test_sentence_of_the_native_path_carries_the_warning():
    status = KernelStatus(path="native", isa="avx2", threads=2, warning="slow")

    assert str(status) == "native (avx2), 2 threads; slow"
