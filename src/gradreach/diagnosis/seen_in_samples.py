"""What the rules of one batch found in the samples of a training, with its time."""

from __future__ import annotations

from dataclasses import replace

from gradreach.diagnosis.course import Course, course
from gradreach.records import Finding, History, Sample

__all__ = ["arose", "late_samples", "seen_in_samples"]

# A finding of a batch is one of the training if most samples of the last half show it: the
# others may be an odd batch, or passed long ago.
MOST = 0.5


def seen_in_samples(history: History) -> list[Finding]:
    """Return each one-batch finding that holds for the training as it is now.

    ``numbers["training"]`` tells the step it was first seen at, in how many of the late samples it
    stands, and whether it arose: whether the sample before the first update was free of it. What
    was there before any update cannot have been made by the updates.

    A non-finite value counts wherever it was seen; it is told once, with its place. So does a
    gradient that exploded before the first update, where the training came to nothing: the first
    steps it made may have killed the units or the gradient, and it does not show any more.
    """
    ran = course(history)
    late: dict[str | None, tuple[Sample, ...]] = {}
    told: dict[tuple[str, str | None], tuple[Finding, int]] = {}
    first: dict[tuple[str, str | None], int] = {}
    for sample in history.samples:
        for finding in sample.findings:
            first.setdefault(_key(finding), sample.step)
            layer = finding.layer
            if layer not in late:
                late[layer] = late_samples(history, layer)
            own = late[layer]
            now = bool(own) and own[0].step <= sample.step <= own[-1].step
            if now or _stays(finding, sample, ran):
                known, times = told.get(_key(finding), (finding, 0))
                # Of a NaN the first place tells, of all others how it is now.
                latest = known if finding.code == "nonfinite-value" else finding
                told[_key(finding)] = latest, times + now
    kept: list[Finding] = []
    for key, (finding, times) in told.items():
        always = finding.code == "nonfinite-value" or not times
        of = len(late[finding.layer])
        if always or times >= MOST * of:
            kept.append(_with_time(finding, first[key], times, of, history.samples[0]))
    return kept


def late_samples(history: History, layer: str | None = None) -> tuple[Sample, ...]:
    """Return the samples of the last half of the steps before the training broke, or the last.

    Args:
        layer: Of those that have this layer, where some do: a script may train one model after
            the other, and of the first there are no samples late in the run.
    """
    if not history.samples:
        return ()
    ran = course(history)
    sound = [sample for sample in history.samples
             if ran.broken is None or sample.step <= ran.broken]  # fmt: skip
    sound = sound or [history.samples[0]]
    sound = [sample for sample in sound if layer in sample.layers] or sound
    last = max(sample.step for sample in sound)
    return tuple(sample for sample in sound if 2 * sample.step >= last)


def arose(finding: Finding) -> bool:
    """Whether a finding of a batch was not yet there before the first update."""
    return bool(finding.numbers.get("training", {}).get("arose", False))


def _stays(finding: Finding, sample: Sample, ran: Course) -> bool:
    if finding.code == "nonfinite-value":
        return True
    nothing = ran.flat or ran.broken is not None or ran.diverged
    return finding.code == "exploding-gradient" and sample.step == 0 and nothing


def _key(finding: Finding) -> tuple[str, str | None]:
    # A NaN spreads: the first one tells, wherever it is next.
    return finding.code, None if finding.code == "nonfinite-value" else finding.layer


def _with_time(finding: Finding, first: int, times: int, of: int, start: Sample) -> Finding:
    fresh = start.step == 0 and _key(finding) not in {_key(each) for each in start.findings}
    time = {"first_step": first, "seen": times, "late_samples": of, "arose": fresh}
    return replace(finding, numbers={**finding.numbers, "training": time})
