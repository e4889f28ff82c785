"""What was written is read back; one fault costs one line; what is broken is told."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.runs import trainings

from gradreach.records.history import COLUMNS
from gradreach.runs.journal import JournalError, JournalTail, read_history, read_journal
from gradreach.runs.journal_format import encode
from gradreach.runs.journal_reader import Journal

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def content(tmp_path_factory) -> bytes:
    return trainings.write(tmp_path_factory.mktemp("run")).read_bytes()


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("damaged")


def read(place: Path, content: bytes) -> Journal:
    (place / "journal.jsonl").write_bytes(content)
    return read_journal(place)


def steps(journal: Journal) -> list[int]:
    return [int(step) for step in journal.history["step"]]


def entries(journal: Journal) -> int:
    """Count rows, samples, probes and events."""
    history = journal.history
    return len(history) + len(history.samples) + len(history.probes) + len(history.events)


def test_all_that_was_written_is_read_back(content, place):
    journal = read(place, content)

    history = journal.history
    assert steps(journal) == list(range(20))
    for name, column in history.rows.items():
        for step, value in enumerate(column):
            assert trainings.same(value, trainings.row(step).get(name, float("nan")))
    assert history.events == (trainings.event(3),)
    for got, wanted in ((history.samples[0], trainings.sample(5)),
                        (history.probes[0], trainings.probe(5))):  # fmt: skip
        assert repr(got.to_dict()) == repr(wanted.to_dict())
    assert history.needs_lag == 30
    assert {"cost": "standard", "every": 50, "seconds": 1.5}.items() <= history.meta.items()
    assert (journal.ended, journal.torn, journal.complaints) == (True, False, [])


def test_every_line_is_strict_json_in_ascii_with_number_and_kind(content):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    lines = content.decode("ascii").splitlines()
    plain = [json.loads(line, parse_constant=refuse) for line in lines]

    assert [line["n"] for line in plain] == list(range(len(lines)))
    assert {line["kind"] for line in plain} == {"meta", "row", "event", "sample", "probe", "end"}


@given(cut=st.integers(0, 10_000))
def test_any_prefix_gives_the_rows_of_its_whole_lines(content, place, cut):
    prefix = content[: cut * len(content) // 10_000]
    whole = [line for line in content.split(b"\n") if b'"row"' in line]
    there = sum(prefix.count(line) for line in whole)  # with or without the line's end
    if not prefix.count(b"}\n") and prefix and not there:
        return  # nothing, or half of the first line: the next test

    journal = read(place, prefix)

    assert steps(journal) == list(range(there))
    assert journal.complaints == []
    assert not journal.ended or prefix.rstrip() == content.rstrip()


def test_half_a_first_line_is_no_journal(content, place):
    with pytest.raises(JournalError, match="not one line of it is whole"):
        read(place, content[:50])


def test_empty_journal_is_an_empty_history(place):
    assert len(read(place, b"").history) == 0


@given(at=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_flipped_bit_costs_its_line_and_no_other(content, place, at, bit):
    at %= len(content)
    damaged = bytearray(content)
    damaged[at] ^= 1 << bit
    lines = content.split(b"\n")
    number = content[:at].count(b"\n")
    lost = lines[number] if content[at] != 10 else b""  # a broken line end is mended

    journal = read(place, bytes(damaged))

    expected = [n - sum(b'"row"' not in line for line in lines[:n])
                for n, line in enumerate(lines) if b'"row"' in line and line != lost]  # fmt: skip
    assert steps(journal) == expected
    assert entries(journal) == 23 - (lost != b"" and b'"meta"' not in lost and b'"end"' not in lost)
    if lost:
        assert journal.damaged >= 1 or journal.torn  # 2 where the bit made a line end
        assert journal.missing == (number < len(lines) - 2)


def test_lost_first_line_costs_only_itself(content, place):
    journal = read(place, content.partition(b"\n")[2])

    assert steps(journal) == list(range(20))
    assert journal.complaints == ["1 entry of the journal is missing."]


def test_damage_is_told_in_sentences(content, place):
    lines = content.split(b"\n")
    lines[2] = lines[2].replace(b'"data":"A', b'"data":"B')
    lines[12] = lines[12][:40]

    journal = read(place, b"\n".join(lines))

    assert len(journal.history) == 18
    assert journal.complaints == [
        "2 lines of the journal are damaged and left out.",
        "2 entries of the journal are missing.",
    ]


def test_repeated_and_reordered_lines_are_noticed_and_put_in_order(content, place):
    lines = content.split(b"\n")
    lines = [*lines[:2], lines[9], *lines[2:9], lines[3], *lines[10:]]

    journal = read(place, b"\n".join(lines))

    assert steps(journal) == list(range(20))
    assert (journal.repeated, journal.reordered, journal.missing) == (1, 2, 0)
    assert journal.complaints[0] == (
        "1 line of the journal repeats another's number and is left out."
    )


def test_many_rows_with_damage_between_are_the_same_as_one_by_one(tmp_path):
    trainings.write(tmp_path, rows=1200)  # numbers of two, three and four digits
    lines = (tmp_path / "journal.jsonl").read_bytes().split(b"\n")
    for place in (40, 41, 500, 1100):
        lines[place] = lines[place][:60] + b"?" + lines[place][61:]
    (tmp_path / "journal.jsonl").write_bytes(b"\n".join(lines))

    journal = read_journal(tmp_path)

    tail = [entry.data for entry in JournalTail(tmp_path).new() if entry.kind == "row"]
    assert (journal.damaged, journal.missing, len(tail)) == (4, 4, 1196)
    for name in ("step", "loss", "gradient_norm"):
        assert journal.history[name].tobytes() == np.array([row[name] for row in tail]).tobytes()
    assert np.isnan(journal.history["update_norm"]).all()


def test_newer_format_is_refused_in_one_sentence(place):
    header = {"format": "gradreach-journal", "schema_version": 2, "columns": ["step"]}

    with pytest.raises(JournalError, match="it has schema version 2 and this gradreach reads up"):
        read(place, encode(0, "meta", header))


def test_column_and_event_of_a_newer_version_leave_the_rest_readable(content, place):
    header = {"format": "gradreach-journal", "schema_version": 1, "columns": ["step", "new"]}
    lines = [
        encode(0, "meta", header),
        encode(1, "row", "AAAAAAAACEAAAAAAAAAAQA=="),
        encode(2, "event", {"kind": "dance", "step": 3, "text": "?", "numbers": {}}),
        encode(3, "dance", {"step": 3}),
    ]

    journal = read(place, b"".join(lines))

    assert journal.history["step"].tolist() == [3.0]
    assert journal.damaged == 1


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("row", "AAAA"),
        ("row", 5),
        ("row", "?"),
        ("sample", {}),
        ("event", []),
        ("meta", {"format": "other", "columns": []}),
        ("meta", {"columns": 3, "format": "gradreach-journal", "schema_version": 1}),
        ("meta", {"data": [[{"$float": "x"}]]}),
    ],
)
def test_intact_line_that_nobody_wrote_is_counted_and_left_out(kind, data, place, content):
    journal = read(place, content + encode(content.count(b"\n"), kind, data))

    assert steps(journal) == list(range(20))
    assert journal.damaged == 1


@pytest.mark.parametrize("depth", [3000, 100_000])
def test_deeply_nested_line_is_left_out(depth, place, content):
    body = b'"kind":"meta","n":24,"data":' + b"[" * depth + b"]" * depth + b"}"

    assert read(place, content + b'{"crc":"%08x",%b\n' % (zlib.crc32(body), body)).damaged == 1


@pytest.mark.parametrize("text", [b"hello\n", b"\x00\xff" * 100, b"[1, 2]\n", b"{}\n" * 9])
def test_other_file_is_no_journal(text, place):
    with pytest.raises(JournalError, match="not one line of it is whole"):
        read(place, text)


@pytest.mark.parametrize("name", ["nowhere", "a\0b", "x" * 300])
def test_missing_journal_is_told_in_one_sentence(name, tmp_path):
    with pytest.raises(JournalError, match="name the folder of a watched run"):
        read_history(tmp_path / name)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.jsonl")), ids=lambda path: path.stem)
def test_journals_of_every_release_stay_readable(path):
    journal = read_journal(path)

    history = journal.history
    assert journal.complaints == []
    assert history["step"].tolist() == list(range(20))
    assert history["loss"][1] == 1.5
    assert np.isnan(history["loss"][0])
    assert history["loss"][7] == np.inf
    assert history.samples[0].layers["rnn.l0"].reach == 2
    assert history.samples[0].findings[0].code == "vanishing-gradient"
    assert history.probes[0].losses[2] == np.inf
    assert history.events[0].text == "‖g‖ was clipped"
    assert history.needs_lag == 30


def test_there_is_a_golden_journal_of_this_schema():
    assert (GOLDEN / "schema-1.jsonl").exists()


def test_written_columns_are_those_of_the_record(content):
    assert json.loads(content.partition(b"\n")[0])["data"]["columns"] == list(COLUMNS)
