"""What the numbers computed on first access cost, told before they are computed."""

from __future__ import annotations

from dataclasses import dataclass

from gradreach.records.array_record import ArrayRecord

__all__ = ["JacobianCost"]

MIB = 2.0**20


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class JacobianCost(ArrayRecord):
    """Estimated cost of a layer's ``jacobian``, ``lyapunov``, ``sensitivity`` and ``conditions``.

    Seconds are for one core, from rates measured once on a laptop-class core; a factor of three
    either way is to be expected.

    Attributes:
        jacobian_seconds, lyapunov_seconds, sensitivity_seconds, conditions_seconds: Estimates.
        working_bytes: Most memory needed meanwhile.
        kept_bytes: What the record keeps of the states so that they can be computed at all.
        method: How singular values would be found.
    """

    jacobian_seconds: float
    lyapunov_seconds: float
    sensitivity_seconds: float
    conditions_seconds: float
    working_bytes: int
    kept_bytes: int
    method: str

    def __repr__(self) -> str:
        return (
            f"jacobian {_seconds(self.jacobian_seconds)} ({self.method}), lyapunov "
            f"{_seconds(self.lyapunov_seconds)}, sensitivity {_seconds(self.sensitivity_seconds)}, "
            f"conditions {_seconds(self.conditions_seconds)}; {self.working_bytes / MIB:.0f} MiB "
            f"meanwhile, {self.kept_bytes / MIB:.1f} MiB kept"
        )


def _seconds(value: float) -> str:
    return "under 1 s" if value < 1 else f"about {value:.0f} s"
