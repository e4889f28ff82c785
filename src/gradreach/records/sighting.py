"""A finding and when a run showed it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gradreach.records.finding import Finding

__all__ = ["Sighting"]


@dataclass(frozen=True)
class Sighting:
    """A finding with the steps of the run at which samples showed it.

    Args:
        finding: As it was first seen.
        first, last: Optimizer steps taken before the first and last sample that showed it.
        count: Number of samples that did.
    """

    finding: Finding
    first: int
    last: int
    count: int = 1

    @classmethod
    def at(cls, finding: Finding, step: int) -> Sighting:
        """Return the first sighting of a finding."""
        return cls(finding, step, step)

    def again(self, step: int) -> Sighting:
        """Return the sighting with one more sample."""
        return replace(self, last=step, count=self.count + 1)

    @property
    def when(self) -> str:
        """Tell the steps in words."""
        if self.count == 1:
            return f"seen at step {self.first}"
        return f"seen in {self.count} samples, steps {self.first} to {self.last}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: the finding's, with ``seen``."""
        seen = {"first_step": self.first, "last_step": self.last, "samples": self.count}
        return {**self.finding.to_dict(), "seen": seen}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Sighting:
        """Undo :meth:`to_dict`."""
        rest = {key: value for key, value in plain.items() if key != "seen"}
        seen = plain["seen"]
        return cls(Finding.from_dict(rest), seen["first_step"], seen["last_step"], seen["samples"])
