"""A file is written whole or not at all, and a failure names the path and the reason."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gradreach.errors import GradreachError
from gradreach.runs.files import WriteError, check_writable, write_whole


def failing(number):
    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    return fail


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_is_written_as_utf8_with_its_own_line_ends(tmp_path):
    write_whole(tmp_path / "a" / "b.txt", "∂\r\nx\n")

    assert (tmp_path / "a" / "b.txt").read_bytes() == "∂\r\nx\n".encode()
    assert names_in(tmp_path / "a") == ["b.txt"]


def test_bytes_replace_what_was_there(tmp_path):
    path = tmp_path / "a"
    path.write_text("old and longer")

    write_whole(path, b"\x00\xff")

    assert path.read_bytes() == b"\x00\xff"


@pytest.mark.parametrize("broken", ["os.replace", "os.fsync"])
def test_failure_keeps_the_old_file_and_leaves_no_temporary(tmp_path, monkeypatch, broken):
    path = tmp_path / "report.html"
    path.write_text("old")
    monkeypatch.setattr(broken, failing(errno.ENOSPC))

    with pytest.raises(WriteError, match=r"cannot write '.*report\.html': the disk is full"):
        write_whole(path, "new")

    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["report.html"]


def test_interruption_keeps_the_old_file_and_leaves_no_temporary(tmp_path, monkeypatch):
    def interrupt(descriptor):
        raise KeyboardInterrupt

    path = tmp_path / "a"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", interrupt)

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, "new")

    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["a"]


def test_file_cut_short_by_the_system_keeps_the_old_one(tmp_path):
    # A real limit, met in the middle of a real write.
    pytest.importorskip("resource")
    path = tmp_path / "a"
    path.write_text("old")
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); "
        "from gradreach.runs.files import write_whole; write_whole(sys.argv[1], b'x' * 100_000)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=False
    )

    assert "WriteError: cannot write" in done.stderr
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["a"]


def test_reader_never_sees_half_a_file(tmp_path):
    # While one process writes two contents in turn, every read finds one of them, whole.
    path = tmp_path / "a"
    first, second = b"a" * 300_000, b"b" * 200_000
    write_whole(path, first)
    code = (
        "import sys; from gradreach.runs.files import write_whole\n"
        "for turn in range(60):\n"
        "    write_whole(sys.argv[1], b'b' * 200_000 if turn % 2 == 0 else b'a' * 300_000)"
    )

    with subprocess.Popen([sys.executable, "-c", code, path]) as writer:
        seen = set()
        while writer.poll() is None:
            content = path.read_bytes()
            assert content in (first, second)
            seen.add(content[:1])

    assert writer.returncode == 0
    assert seen == {b"a", b"b"}


def test_permissions_of_an_existing_file_are_kept(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    path.chmod(0o640)

    write_whole(path, "new")

    assert path.stat().st_mode & 0o777 == 0o640


def test_new_file_has_the_permissions_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "a", "new")
    finally:
        os.umask(before)

    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_symbolic_link_keeps_pointing_at_the_file(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")

    write_whole(tmp_path / "link", "new")

    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_longest_name_can_be_written(tmp_path):
    name = "n" * 255

    write_whole(tmp_path / name, "x")

    assert names_in(tmp_path) == [name]


def test_folder_is_refused(tmp_path):
    with pytest.raises(WriteError, match="it is a folder: name a file inside it"):
        write_whole(tmp_path, "x")


def test_path_through_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(WriteError, match="a part of that path is a file"):
        write_whole(tmp_path / "file" / "a", "x")


def test_checking_makes_nothing(tmp_path):
    assert check_writable(tmp_path / "a" / "b") == tmp_path / "a" / "b"

    assert names_in(tmp_path) == []


def test_folder_that_cannot_be_made_is_told(tmp_path):
    # Only the attempt tells: nothing above the missing folder is wrong.
    with pytest.raises(WriteError, match="the name is too long for this file system"):
        write_whole(tmp_path / ("n" * 256) / "a", "x")


def test_device_is_refused_and_stays_a_device(tmp_path):
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)

    with pytest.raises(WriteError, match="it is a device or a pipe: name a regular file"):
        write_whole(fifo, "x")

    assert fifo.is_fifo()


def test_name_beyond_the_file_system_is_refused(tmp_path):
    with pytest.raises(WriteError, match="the name is too long"):
        write_whole(tmp_path / ("n" * 256), "x")


def test_folder_that_may_not_be_written_to_is_told(tmp_path, monkeypatch):
    # For the superuser every folder is writable: the answer of the system is given instead.
    monkeypatch.setattr(os, "access", lambda path, mode: False)

    with pytest.raises(WriteError, match="may not be written to: choose another folder"):
        check_writable(tmp_path / "a")


def test_read_only_folder_is_told(tmp_path, lacks):
    if os.geteuid() == 0:
        lacks("an unprivileged user")
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(WriteError, match="may not be written to: choose another folder"):
            write_whole(tmp_path / "a", "x")
    finally:
        tmp_path.chmod(0o700)


def test_error_is_ours_and_an_os_error_with_its_number(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", failing(errno.EROFS))

    with pytest.raises(GradreachError, match="its disk is read-only") as caught:
        write_whole(tmp_path / "a", "x")

    assert isinstance(caught.value, OSError)
    assert caught.value.errno == errno.EROFS
