"""What the pages say holds: blocks marked as runnable run, links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python run\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")

# docs/_hooks.py serves CHANGELOG.md and the playground under these names.
SERVED = {ROOT / "docs" / "changelog.md", ROOT / "docs" / "playground.html"}

RUNNABLE = [
    pytest.param(page, block, id=f"{page.relative_to(ROOT).as_posix()}-{number}")
    for page in PAGES
    for number, block in enumerate(BLOCK.findall(page.read_text()), start=1)
]


@pytest.mark.parametrize(("page", "block"), RUNNABLE)
def test_block_marked_as_runnable_runs(page, block, tmp_path):
    # In an interpreter of its own, as a reader would: warnings of torch's import are torch's.
    done = subprocess.run(
        [sys.executable, "-c", block],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, f"{page}:\n{done.stderr}"
    assert done.stdout, "a block that shows nothing teaches nothing"


def test_readme_has_a_runnable_block():
    assert any(parameter.values[0] == ROOT / "README.md" for parameter in RUNNABLE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_relative_links_lead_to_a_file(page):
    links = LINK.findall(FENCE.sub("", page.read_text()))
    local = [link for link in links if not re.match(r"[a-z]+:|#", link)]
    targets = [(page.parent / link.partition("#")[0]).resolve() for link in local]

    missing = [target for target in targets if not target.exists() and target not in SERVED]

    assert missing == []
