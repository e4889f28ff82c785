"""Findings as a person reads them: what was found where, why, what to try, what refutes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from gradreach.records.finding import REMEDIES, Finding
from gradreach.report.terminal import WIDTH, wrapped

__all__ = ["REMEDY_WORDS", "Found", "Group", "finding_lines", "found_sentence", "groups"]

# A remedy's name is what `gradreach.compare` knows it by; each phrase holds it.
REMEDY_WORDS = {
    "activation": "another activation (ReLU, leaky ReLU)",
    "initialization": "another initialization (identity, orthogonal, forget bias)",
    "skip": "skip connections over several steps",
    "residual": "residual recurrent connections",
    "gating": "gating (LSTM, GRU)",
    "clipping": "gradient clipping",
    "learning_rate": "another learning rate",
    "truncation": "another truncation length",
}
assert set(REMEDY_WORDS) == set(REMEDIES)


@dataclass(frozen=True, slots=True)
class Found:
    """A finding and where it was found.

    Attributes:
        finding: What was found.
        where: Of several measurements, which one; empty if there is one only.
    """

    finding: Finding
    where: str = ""

    @property
    def place(self) -> str:
        """Return where in words: the measurement, the layer, the gate.

        Example:
            >>> told = {"code": "closed-gate", "severity": "note", "cause": "", "counter_check": ""}
            >>> Found(Finding(layer="rnn.l0", gate="f", **told), "after 9 steps").place
            'after 9 steps, rnn.l0, gate f'
        """
        finding = self.finding
        gate = f"gate {finding.gate}" if finding.gate else ""
        return ", ".join(part for part in (self.where, finding.layer or "", gate) if part)


@dataclass(frozen=True, slots=True)
class Group:
    """The same problem with the same remedies, wherever it was found."""

    members: tuple[Found, ...]

    @property
    def finding(self) -> Finding:
        """The first of them; code, severity and remedies are those of all."""
        return self.members[0].finding

    @property
    def remedies(self) -> str:
        """Return the remedies as a phrase, the best first; empty if there is none.

        Example:
            >>> told = {"code": "dead-units", "severity": "note", "cause": "", "counter_check": ""}
            >>> Group((Found(Finding(remedies=("skip", "residual"), **told)),)).remedies
            'skip connections over several steps; residual recurrent connections'
        """
        return "; ".join(REMEDY_WORDS[name] for name in self.finding.remedies)


def groups(found: Sequence[Found]) -> list[Group]:
    """Put the same problem in several places together; the order is that of the first of each.

    Args:
        found: Findings, the gravest first.

    Example:
        >>> told = {"code": "dead-units", "severity": "note", "cause": "", "counter_check": ""}
        >>> [len(group.members) for group in groups([Found(Finding(**told))] * 2)]
        [2]
    """
    keys: dict[tuple[str, ...], int] = {}

    def place(item: Found) -> int:
        finding = item.finding
        return keys.setdefault((finding.severity, finding.code, *finding.remedies), len(keys))

    ranked = sorted(found, key=place)  # stable: within a group the order stays
    return [Group(tuple(members)) for _, members in groupby(ranked, key=place)]


def finding_lines(
    found: Sequence[Found], *, none: str = "No problem found.", width: int = WIDTH
) -> Iterator[str]:
    r"""Yield findings as terminal text: each cause with its counter-check, remedies once.

    Args:
        found: Findings, the gravest first.
        none: What to say where there is none.
        width: Most columns to use.

    Example:
        >>> one = Finding(code="vanishing-gradient", severity="warning", layer="rnn.l0",
        ...               cause="it contracts", counter_check="double it", remedies=("skip",))
        >>> print("\n".join(finding_lines([Found(one)])))
          warning: vanishing-gradient
            rnn.l0: it contracts.
              To refute it: double it.
            Worth trying: skip connections over several steps.
    """
    if not found:
        yield from wrapped(none, width)
    for group in groups(found):
        yield from wrapped(f"{group.finding.severity}: {group.finding.code}", width)
        for item in group.members:
            where = f"{item.place}: " if item.place else ""
            explained = item.finding.explains
            also = f" This explains: {', '.join(explained)}." if explained else ""
            yield from _deeper(f"{where}{item.finding.cause}.{also}", 1, width)
            yield from _deeper(f"To refute it: {item.finding.counter_check}.", 2, width)
        if group.remedies:
            yield from _deeper(f"Worth trying: {group.remedies}.", 1, width)


def found_sentence(found: Sequence[Found]) -> str:
    """Say in one sentence what was found; notes count only where there is nothing else.

    Args:
        found: Findings, the gravest first.

    Example:
        >>> told = {"severity": "warning", "cause": "", "counter_check": ""}
        >>> layers = [Found(Finding(code="dead-units", layer=f"rnn.l{k}", **told)) for k in (0, 1)]
        >>> print(found_sentence(layers), found_sentence([]))
        2 problems found: dead-units in rnn.l0, rnn.l1. No problem found.
    """
    grave = [item for item in found if item.finding.severity != "note"]
    if not grave:
        return "No problem found."
    layers: dict[str, list[str]] = {}
    for item in grave:
        named = layers.setdefault(item.finding.code, [])
        if item.finding.layer and item.finding.layer not in named:
            named.append(item.finding.layer)
    told = "; ".join(
        f"{code} in {', '.join(named)}" if named else code for code, named in layers.items()
    )
    return f"{len(grave)} problem{'s' if len(grave) > 1 else ''} found: {told}."


def _deeper(text: str, levels: int, width: int) -> Iterator[str]:
    indent = "  " * levels
    yield from (indent + line for line in wrapped(text, width - len(indent)))
