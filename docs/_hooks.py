"""What mkdocs is told beyond mkdocs.yml: page order, the changelog's place, runnable blocks.

Two facts would otherwise be written twice: which pages there are (the folders tell) and what
changed (CHANGELOG.md at the top of the repository, where users of the package look).
"""

from __future__ import annotations

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
    """Serve the repository's CHANGELOG.md as the page `changelog.md`."""
    source = Path(config.docs_dir).parent / "CHANGELOG.md"
    files.append(File.generated(config, "changelog.md", content=source.read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Take the word `run` off the fences of executed blocks.

    It tells tests/docs which blocks to execute; Python-Markdown would not see a fence in it.
    """
    return markdown.replace("```python run\n", "```python\n")
