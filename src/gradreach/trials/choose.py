"""Chooses the treatments worth trying on a diagnosed training, most likely and cheapest first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from gradreach.errors import GradreachError
from gradreach.records.finding import REMEDIES, Finding
from gradreach.treatments.combined import Combined
from gradreach.treatments.facts import RunFacts
from gradreach.treatments.families import ALL, treatment_from
from gradreach.treatments.treatment import Treatment, TreatmentError

__all__ = ["MOST", "ChoiceError", "Chosen", "choose"]

MOST = 8
"""Treatments tried at once. Each further one makes every short trial shorter and the interval of
every effect wider, and those named last are the least likely."""
ROOM = 2  # of these, places kept for combinations where several families have something to say
EXPLODED = 10.0  # median of the gradient's norms; healthy trainings of every size stay below it
TOGETHER = (
    ("gating", "clipping"),
    ("learning_rate", "clipping"),
    ("initialization", "clipping"),
    ("gating", "learning_rate"),
    ("truncation", "gating"),
    ("truncation", "clipping"),
    ("initialization", "learning_rate"),
)
"""Families that help one another: one lets the gradient through, the other keeps its size."""


class ChoiceError(GradreachError, ValueError):
    """A treatment that was asked for by name does not exist or does not fit."""


@dataclass(frozen=True)
class Chosen:
    """What is tried, and what is not.

    Attributes:
        treatments: In the order in which they are worth trying.
        refused: Name and reason of each that a finding asked for and the model does not allow.
        left: Labels of further ones for which there was no room.
    """

    treatments: tuple[Treatment, ...]
    refused: tuple[tuple[str, str], ...] = ()
    left: tuple[str, ...] = ()


def choose(
    findings: Sequence[Finding],
    facts: RunFacts,
    *,
    wanted: Sequence[str] = (),
    most: int = MOST,
) -> Chosen:
    """Choose by the findings, in their order, and by the remedies that each names, in theirs.

    The families take turns: the best of each comes before the second best of any, as a family
    that does not help seldom helps with other numbers. Mere notes ask for no treatment.

    Args:
        findings: The gravest first. facts: Of the run they were found in.
        wanted: Families or labels that the user names; then only these.
        most: How many at once.

    Raises:
        ChoiceError: A name in ``wanted`` is none, or what it names does not fit the training.

    Example:
        >>> from gradreach.treatments.facts import LayerFacts
        >>> finding = Finding(code="vanishing-gradient", severity="warning", cause="",
        ...                   counter_check="", remedies=("gating", "residual"))
        >>> facts = RunFacts(layers=(LayerFacts(kind="rnn", hidden_size=8),), sequence_steps=100)
        >>> [each.label for each in choose([finding], facts, most=2).treatments]
        ['gating(GRU) + initialization(chrono, max_lag=100)', 'residual(alpha=0.01, beta=0.99)']
    """
    if wanted:
        return Chosen(tuple(_unique(each for name in wanted for each in _named(name, facts))))
    asking = [finding for finding in findings if finding.severity != "note"]
    named = list(dict.fromkeys(name for finding in asking for name in finding.remedies))
    families = [*_first(facts), *named, *ALL]  # some treatments fit what names others
    families = list(dict.fromkeys(families))
    by_family = {
        name: _unique(
            each for finding in asking for each in _candidates(name, finding, facts)
        )
        for name in families
    }  # fmt: skip
    single = _unique(_in_turn(by_family[name] for name in families))
    together = _unique(_together(by_family, facts))
    room = max(most - min(ROOM, len(together)), 1)
    ordered = [*single[:room], *together]
    ordered = [*ordered[:most], *single[room:]] if len(ordered) >= most else [
        *ordered, *single[room:],
    ]  # fmt: skip
    unique = _unique(ordered)
    return Chosen(
        tuple(unique[:most]),
        tuple(_refused({name: by_family[name] for name in named}, facts)),
        tuple(each.label for each in unique[most:]),
    )


def _first(facts: RunFacts) -> list[str]:
    """Return the family without which no other can help: windows shorter than the task's lag."""
    known = facts.needs_lag is not None and facts.sequence_steps is not None
    short = known and facts.needs_lag >= facts.sequence_steps  # type: ignore[operator]
    return ["truncation"] if short else []


def _candidates(family: str, finding: Finding, facts: RunFacts) -> Iterator[Treatment]:
    if family == "clipping" and facts.gradient_norms.get(0.5, 0.0) > EXPLODED:
        # Norms of an explosion under way say nothing of the size that steps should have.
        usual = treatment_from("clipping(norm=1.0)")
        if usual.applies_to(finding, facts):
            yield usual
    for kind in ALL.get(family, ()):
        yield from kind.candidates(finding, facts)


def _in_turn(families: Iterable[Sequence[Treatment]]) -> Iterator[Treatment]:
    for places in zip_longest(*families):
        yield from (each for each in places if each is not None)


def _together(by_family: dict[str, list[Treatment]], facts: RunFacts) -> Iterator[Treatment]:
    """Yield the best of two families that help one another, where the findings name both."""
    for names in TOGETHER:
        best = [by_family[name][0] for name in names if by_family.get(name)]
        if len(best) != len(names):
            continue
        try:
            both = Combined(tuple(best))
        except TreatmentError:  # they conflict
            continue
        if both.refuses(facts) is None:
            yield both


def _refused(by_family: dict[str, list[Treatment]], facts: RunFacts) -> Iterator[tuple[str, str]]:
    """Yield why a family that a finding names has nothing to offer here."""
    for name, found in by_family.items():
        if not found:
            reasons = list(dict.fromkeys(_reasons(name, facts)))
            yield name, "; ".join(reasons) or "nothing in it fits what was measured"


def _reasons(family: str, facts: RunFacts) -> Iterator[str]:
    for kind in ALL.get(family, ()):
        try:
            why = kind().refuses(facts)
        except TypeError:  # it has no parameters to go by
            continue
        if why is not None:
            yield why


def _named(name: str, facts: RunFacts) -> list[Treatment]:
    """Return what a name of the user's stands for: a family, or one treatment."""
    if name in ALL:
        asking = Finding(
            code="asked-for", severity="warning", cause="", counter_check="",
            remedies=(name,) if name in REMEDIES else (),
        )  # fmt: skip
        found = list(_candidates(name, asking, facts))
        if not found:
            why = "; ".join(dict.fromkeys(_reasons(name, facts))) or "it has nothing to offer here"
            raise ChoiceError(f"the treatment {name!r} does not fit this training: {why}")
        return found
    try:
        treatment = treatment_from(name)
    except TreatmentError as error:
        raise ChoiceError(
            f"the treatment {name!r} is neither a family ({', '.join(ALL)}) nor a label such as "
            f"gating(GRU): {error}"
        ) from error
    why_not = treatment.refuses(facts)
    if why_not is not None:
        raise ChoiceError(f"the treatment {name!r} does not fit this training: {why_not}")
    return [treatment]


def _unique(treatments: Iterable[Treatment]) -> list[Treatment]:
    return list({each.label: each for each in treatments}.values())
