"""A state carried over undetached is found, with the line to change; nothing else is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.script.twins import SCRIPTS, Ended, codes, meta, watched

SCRIPT = SCRIPTS / "growing.py"
LINE = next(n for n, text in enumerate(SCRIPT.read_text().splitlines(), 1) if "to change" in text)


def growing(how: str, tmp_path: Path) -> tuple[Ended, Path]:
    return watched(tmp_path, SCRIPT, how)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("second", "Trying to backward through the graph a second time"),
        ("inplace", "modified by an inplace operation"),
    ],
)
def test_crash_is_explained_with_the_line_to_change(how: str, words: str, tmp_path: Path) -> None:
    done, folder = growing(how, tmp_path)

    assert done.code == 1  # the script's own
    assert words in done.own_err
    [finding] = json.loads((folder / "findings.json").read_text())["findings"]
    assert (finding["code"], finding["severity"]) == ("growing-graph", "error")
    assert finding["layer"] == "rnn"
    assert (finding["numbers"]["file"], finding["numbers"]["line"]) == (str(SCRIPT), LINE)
    assert finding["numbers"]["crashed"] is True
    assert finding["seen"]["first_step"] == 1
    assert f"growing.py:{LINE}" in done.said
    assert "`h = h.detach()`" in done.said


def test_graph_that_grows_in_silence_is_found(tmp_path: Path) -> None:
    done, folder = growing("silent", tmp_path)

    assert done.code == 1
    [finding] = json.loads((folder / "findings.json").read_text())["findings"]
    assert (finding["code"], finding["severity"]) == ("growing-graph", "warning")
    assert (finding["numbers"]["line"], finding["numbers"]["crashed"]) == (LINE, False)
    assert "time and memory grow" in done.said


def test_another_crash_is_not_blamed_on_a_state_carried_over(tmp_path: Path) -> None:
    done, folder = growing("other", tmp_path)

    assert done.code == 1
    assert "input.size(-1) must be equal to input_size" in done.own_err
    assert codes(folder) == []


@pytest.mark.slow
@pytest.mark.parametrize("how", ["masked", "caught"])
def test_crash_is_explained_where_the_state_or_the_error_took_a_detour(
    how: str, tmp_path: Path
) -> None:
    done, folder = growing(how, tmp_path)

    assert codes(folder) == ["growing-graph"]
    assert done.code == (4 if how == "caught" else 1)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["healthy", "learned", "window"])
def test_state_that_is_detached_learned_or_shared_by_two_passes_is_healthy(
    how: str, tmp_path: Path
) -> None:
    done, folder = growing(how, tmp_path)

    assert (done.code, codes(folder)) == (0, [])
    assert meta(folder)["samples"] == 3
