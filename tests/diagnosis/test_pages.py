"""The pages of the findings, in the package and on the command line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from gradreach.cli.explain import explain
from gradreach.diagnosis.pages import codes, page

DOCS = Path(__file__).parents[2] / "docs" / "findings"


def test_every_page_of_the_documentation_is_known_by_its_code():
    assert set(codes()) == {path.stem for path in DOCS.glob("*.md")} - {"index"}


@pytest.mark.parametrize("code", codes())
def test_page_is_the_one_of_the_documentation(code):
    assert page(code) == (DOCS / f"{code}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", codes())
def test_index_links_to_the_page(code):
    assert f"[{code}]({code}.md)" in (DOCS / "index.md").read_text(encoding="utf-8")


def test_explain_prints_the_page():
    done = CliRunner().invoke(explain, ["closed-gate"])

    assert done.exit_code == 0
    assert done.output.strip() == page("closed-gate").strip()


def test_explain_without_a_code_lists_them():
    done = CliRunner().invoke(explain, [])

    assert done.exit_code == 0
    assert tuple(done.output.split()) == codes()


@pytest.mark.parametrize(
    ("typed", "nearest"),
    [
        ("vanishing", "vanishing-gradient"),
        ("Closed_Gate", "closed-gate"),
        ("deadunit", "dead-units"),
    ],
)
def test_explain_of_an_unknown_code_names_the_nearest(typed, nearest):
    done = CliRunner().invoke(explain, [typed])

    assert done.exit_code == 2
    assert re.search(rf"there is no finding '{typed}': did you mean .*{nearest}", done.output)


def test_explain_of_a_foreign_word_names_all():
    done = CliRunner().invoke(explain, ["qqq"])

    assert done.exit_code == 2
    assert all(code in done.output for code in codes())


@pytest.mark.parametrize("path", ["../index", "index", "/etc/hostname"])
def test_explain_reads_nothing_but_findings(path):
    with pytest.raises(LookupError, match="there is no finding"):
        page(path)
