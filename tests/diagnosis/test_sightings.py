"""Findings of a recorded training carry the steps at which its samples showed them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.records.trainings import training

from gradreach.diagnosis.sightings import sightings_of
from gradreach.records import Finding, History
from gradreach.records.sighting import Sighting

TOLD = {"cause": "", "counter_check": "", "severity": "warning"}
DEAD = Finding(code="dead-units", layer="rnn.l0", **TOLD)


def with_findings(*findings: tuple[Finding, ...]) -> History:
    sound = training(steps=50 * len(findings))
    samples = [replace(sample, findings=found)
               for sample, found in zip(sound.samples, findings, strict=True)]  # fmt: skip
    return History(rows=sound.rows, samples=tuple(samples))


def test_finding_of_many_samples_is_told_once_with_its_steps():
    (dead,) = [
        each
        for each in sightings_of(with_findings((DEAD,), (DEAD,), (DEAD,), (DEAD,)))
        if each.finding.code == "dead-units"
    ]

    assert dead.when == "seen in 4 samples, steps 0 to 150"


def test_what_no_sample_can_hold_is_kept_from_what_was_written():
    crash = Sighting.at(Finding(code="growing-graph", **TOLD | {"severity": "error"}), 7)
    old = Sighting.at(DEAD, 3)

    found = sightings_of(training(), beside=[old, crash])

    assert found[0] == crash
    assert old not in found


def test_empty_history_has_no_findings_but_perhaps_notes():
    assert {each.finding.severity for each in sightings_of(History(rows={}))} <= {"note"}


@pytest.mark.parametrize("first", [0, 500])
def test_finding_of_the_course_is_seen_at_the_last_step(first):
    rows = [{"step": first + step, "loss": 0.9**step} for step in range(100)]

    assert {each.first for each in sightings_of(History.of(rows))} == {first + 99}
