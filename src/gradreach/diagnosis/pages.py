"""The documentation page of each finding, as it travels with the package."""

from __future__ import annotations

from difflib import get_close_matches
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from gradreach.diagnosis.order import ORDER

__all__ = ["codes", "page"]


def codes() -> tuple[str, ...]:
    """Return the findings that have a page, a cause before its symptoms.

    Example:
        >>> "vanishing-gradient" in codes()
        True
    """
    there = {entry.name for entry in _folder().iterdir()}
    return tuple(code for code in ORDER if f"{code}.md" in there)


def page(code: str) -> str:
    """Return the page of a finding, in Markdown.

    Args:
        code: As a finding bears it.

    Raises:
        LookupError: There is no such page; the message names the nearest ones.

    Example:
        >>> page("vanishing-gradient").splitlines()[0]
        '# vanishing-gradient'
    """
    known = codes()
    if code not in known:
        near = get_close_matches(code.lower().replace("_", "-"), known, n=3, cutoff=0.4) or known
        raise LookupError(f"there is no finding {code!r}: did you mean {' or '.join(near)}?")
    return (_folder() / f"{code}.md").read_text(encoding="utf-8")


def _folder() -> Traversable:
    """Return where the pages are: in the source tree, else in the installed package.

    They stand in docs/findings, where the documentation has them, and travel in a wheel as
    gradreach/_findings. An editable installation has copies that age: there the source is read.
    """
    source = Path(__file__).parents[3]
    if (source / "pyproject.toml").is_file():
        return source / "docs" / "findings"
    return files("gradreach") / "_findings"
