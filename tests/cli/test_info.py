"""`gradreach info`: what the kernels run on, and a setting that does not exist."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from gradreach.cli import main
from gradreach.kernels import status
from gradreach.kernels.native import core


@pytest.fixture
def setting(monkeypatch):
    """Set GRADREACH_ISA as if the process had been started with it."""

    def setting(isa: str) -> None:
        monkeypatch.setenv("GRADREACH_ISA", isa)
        core._loaded.cache_clear()

    yield setting
    core._loaded.cache_clear()


def test_info_tells_what_the_kernels_run_on():
    told = CliRunner().invoke(main, ["info"]).output

    assert f"kernels    {status()}\n" in told
    assert "kernel_status" not in told


def test_info_as_json_has_the_fields_of_the_sentence(setting):
    setting("reference")

    told = json.loads(CliRunner().invoke(main, ["info", "--json"]).output)

    assert told["kernel_status"]["path"] == "reference"
    assert told["kernel_status"]["why_not_native"].endswith("GRADREACH_ISA=reference")


def test_info_with_a_misspelt_setting_is_a_usage_error(setting):
    setting("avx-512")

    done = CliRunner().invoke(main, ["info"])

    assert done.exit_code == 2
    assert "GRADREACH_ISA is 'avx-512'" in done.output
