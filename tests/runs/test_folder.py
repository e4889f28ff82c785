"""The folder of a run is new, readable at any moment, and says what is wrong with a path."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from gradreach.runs.folder import RunFolder, RunFolderError
from gradreach.runs.journal import JournalWriter


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "deep" / "run")

    folder.write_meta({"state": "running", "seconds": float("nan")})
    folder.write_findings([{"code": "dead-units"}])
    folder.write_flow(7, {"loss": 0.5})

    again = RunFolder.opened(tmp_path / "deep" / "run")
    assert again.read("meta.json")["schema_version"] == 1
    assert again.read("meta.json")["seconds"] != again.read("meta.json")["seconds"]
    assert again.read("findings.json")["findings"] == [{"code": "dead-units"}]
    assert again.read("flows/pass-00000007.json") == {"loss": 0.5}
    assert folder.report == tmp_path / "deep" / "run" / "report.html"


@pytest.mark.parametrize("content", ["", '{"half": ', "\x00\xff"])
def test_file_that_is_not_whole_is_told_by_its_name(content: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    (folder.path / "meta.json").write_text(content)

    with pytest.raises(RunFolderError, match=r"meta\.json' cannot be read"):
        folder.read("meta.json")
    with pytest.raises(RunFolderError, match=r"findings\.json' cannot be read"):
        folder.read("findings.json")


def test_folder_with_something_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("kept")

    with pytest.raises(RunFolderError, match="is not empty: name another one with --run"):
        RunFolder(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


def test_folder_that_another_watch_writes_is_refused_with_its_process(tmp_path: Path) -> None:
    JournalWriter(RunFolder(tmp_path / "a").path)

    with pytest.raises(
        RunFolderError, match=f"run 'a' is being written by pid {os.getpid()} on host .+: wait for"
    ):
        RunFolder(tmp_path / "a")


def test_empty_folder_is_taken(tmp_path: Path) -> None:
    assert (RunFolder(tmp_path).path / "flows").is_dir()


@pytest.mark.parametrize("name", ["file/run", "a\0b", "x" * 300, "file"])
def test_folder_that_cannot_be_made_is_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")

    with pytest.raises(RunFolderError, match=r"cannot be made \(.+\): name another one") as caught:
        RunFolder(tmp_path / name)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("script", "safe"),
    [("train", "train-"), ("../../etc/x", "etc-x-"), ("ünï cödé", "n-c-d-"), ("…", "run-")],
)
def test_fresh_folder_is_named_safely(script: str, safe: str, tmp_path: Path) -> None:
    folder = RunFolder.fresh(script, tmp_path / "runs")

    assert folder.path.parent == tmp_path / "runs"
    assert folder.path.name.startswith(safe)


def test_fresh_folders_are_never_shared(tmp_path: Path) -> None:
    made: list[Path] = []
    threads = [
        threading.Thread(target=lambda: made.append(RunFolder.fresh("train", tmp_path).path))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(made)) == 8


def test_fresh_folder_under_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "gradreach-runs").write_text("a file")

    with pytest.raises(RunFolderError, match="cannot be made"):
        RunFolder.fresh("train", tmp_path / "gradreach-runs")
