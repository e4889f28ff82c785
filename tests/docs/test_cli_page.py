"""The command-line page is what the commands say today."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import click
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def generator() -> ModuleType:
    """Load docs/_cli_page.py, the script behind `./dev docs`."""
    spec = importlib.util.spec_from_file_location("_cli_page", ROOT / "docs" / "_cli_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_page_is_what_help_says_today(generator):
    from gradreach.cli import main

    expected = generator.render(main)

    assert generator.PAGE.read_text() == expected, "run ./dev docs"


def test_page_has_every_command_and_no_hidden_one(generator):
    @click.group(help="All of it.")
    def main() -> None: ...

    @main.command(help="Look back.")
    @click.option("--far", help="How far.")
    def look(far: str) -> None: ...

    @main.command(hidden=True)
    def secret() -> None: ...

    page = generator.render(main)

    assert "## gradreach\n" in page
    assert "## gradreach look\n" in page
    assert "How far." in page
    assert "secret" not in page
