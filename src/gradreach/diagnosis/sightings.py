"""The findings of a training with the steps at which its samples showed them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from gradreach.diagnosis.diagnose import diagnose
from gradreach.diagnosis.order import sort_key
from gradreach.records import Finding, GradientFlow, History
from gradreach.records.sighting import Sighting

__all__ = ["sightings_of"]

# What a sample cannot hold: it is seen where a pass ends in an error, or is not measured at all.
NOT_IN_SAMPLES = ("growing-graph", "blind-probe")


def sightings_of(
    history: History,
    needs_lag: int | None = None,
    beside: Iterable[Sighting] = (),
    flows: Sequence[tuple[int, GradientFlow]] = (),
) -> list[Sighting]:
    """Say what is wrong with a recorded training, the gravest first, and when it was seen.

    Args:
        history: Of a run that may have been killed.
        needs_lag: How many steps back the task must look; else what the history says.
        beside: Findings that were written while it ran. Those that no history can show are kept.
        flows: Measured passes with their steps, oldest first. Where ``needs_lag`` is given only
            now, the latest is asked again: samples hold what was found without it.

    Example:
        >>> solved = History.of([{"step": step, "loss": 0.9**step} for step in range(100)])
        >>> [(each.finding.code, each.when) for each in sightings_of(solved)]
        [('stagnated-training', 'seen at step 99')]
    """
    seen: dict[tuple[str, str], Sighting] = {}
    for sample in history.samples:
        for finding in sample.findings:
            before = seen.get(_key(finding))
            seen[_key(finding)] = (
                Sighting.at(finding, sample.step) if before is None else before.again(sample.step)
            )
    steps = history["step"]
    last = int(steps[-1]) if len(steps) and steps[-1] == steps[-1] else max(len(steps) - 1, 0)
    told = {_key(finding): (last, finding) for finding in diagnose(history, needs_lag)}
    if needs_lag is not None:
        told |= {
            _key(finding): (step, finding)
            for step, flow in flows[-1:]
            for finding in diagnose(flow, needs_lag)
            if finding.code == "vanishing-gradient"
        }
    now = [
        replace(seen.get(key, Sighting.at(finding, step)), finding=finding)
        for key, (step, finding) in told.items()
    ]
    codes = {code for code, _ in told}
    kept = [
        each
        for each in beside
        if each.finding.code in NOT_IN_SAMPLES and each.finding.code not in codes
    ]
    return sorted([*kept, *now], key=lambda sighting: sort_key(sighting.finding))


def _key(finding: Finding) -> tuple[str, str]:
    return finding.code, finding.layer or ""
