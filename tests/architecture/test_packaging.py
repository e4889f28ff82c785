"""The installed package carries what stands outside src/: the example scripts."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_examples_are_part_of_the_package():
    packaged = files("gradreach._examples")

    expected = {path.name: path.read_text() for path in EXAMPLES.glob("*.py")}

    assert expected
    for name, text in expected.items():
        with as_file(packaged / name) as path:
            assert path.read_text() == text
