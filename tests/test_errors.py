"""The exceptions of gradreach, and how a missing extra is told from a broken one."""

from __future__ import annotations

import pytest

from gradreach.errors import GradreachError, MissingExtraError, NotMeasurableError, require


def test_missing_package_names_the_extra_that_brings_it():
    with pytest.raises(MissingExtraError) as caught:
        require("gradreach_has_no_such_package", extra="plot", purpose="`flow.plot()`")

    assert str(caught.value) == (
        "`flow.plot()` needs `gradreach_has_no_such_package`: pip install 'gradreach[plot]'"
    )
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_submodule_of_a_missing_package_is_a_missing_package():
    with pytest.raises(MissingExtraError, match="needs `gradreach_absent.core`"):
        require("gradreach_absent.core", extra="ray", purpose="`compare(ray=…)`")


def test_broken_package_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "gradreach_broken.py").write_text("import gradreach_its_own_import\n")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ModuleNotFoundError, match="gradreach_its_own_import") as caught:
        require("gradreach_broken", extra="plot", purpose="a test")

    assert not isinstance(caught.value, GradreachError)


def test_one_except_clause_catches_them_all():
    assert issubclass(NotMeasurableError, GradreachError)
    assert issubclass(MissingExtraError, GradreachError | ImportError)
    assert issubclass(MissingExtraError, ImportError)
