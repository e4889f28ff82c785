"""What mkdocs is told beyond mkdocs.yml: page order, the changelog's place, runnable blocks.

Facts would otherwise be written twice: which pages there are (the folders tell), what changed
(CHANGELOG.md at the top of the repository, where users of the package look), and the playground
(the package's own).
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

SECTIONS = ("Guides", "Concepts", "Findings", "Reference", "Decisions")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Order the navigation: the reader's problem first, our reasons last."""
    docs = Path(config.docs_dir)
    nav: list[Any] = [{"Start": "index.md"}]
    for section in SECTIONS:
        folder = docs / section.lower()
        pages = sorted(folder.glob("*.md"), key=lambda page: (page.name != "index.md", page.name))
        nav.append({section: [page.relative_to(docs).as_posix() for page in pages]})
    nav += [{"Benchmarks": "benchmarks.md"}, {"Changelog": "changelog.md"}]
    config.nav = nav
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Serve CHANGELOG.md as the page `changelog.md`, and the playground as `playground.html`."""
    root = Path(config.docs_dir).parent
    changes = (root / "CHANGELOG.md").read_text("utf-8")
    files.append(File.generated(config, "changelog.md", content=changes))
    files.append(File.generated(config, "playground.html", content=_playground(root)))
    return files


def _playground(root: Path) -> str:
    """Return the playground's page; its module is loaded by path, the package not installed."""
    path = root / "src" / "gradreach" / "report" / "playground" / "page.py"
    spec = importlib.util.spec_from_file_location("playground_page", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    version = re.search(
        r'__version__ = "([^"]+)"', (root / "src/gradreach/__init__.py").read_text()
    )
    page: str = module.playground_page(version=version[1] if version else "")
    return page


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Take the word `run` off the fences of executed blocks.

    It tells tests/docs which blocks to execute; Python-Markdown would not see a fence in it.
    """
    return markdown.replace("```python run\n", "```python\n")
