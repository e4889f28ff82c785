"""What a layer's record asks of the states that a measurement kept."""

from __future__ import annotations

from typing import Protocol

from gradreach.records.conditions import Conditions
from gradreach.records.jacobian_cost import JacobianCost
from gradreach.records.jacobian_summary import JacobianSummary
from gradreach.records.lyapunov_spectrum import LyapunovSpectrum
from gradreach.records.state_sensitivity import StateSensitivity

__all__ = ["StateSpace"]


class StateSpace(Protocol):
    """The recorded states of one layer with its weights as they were: what Jacobians need.

    Lives in memory only; a saved record holds what was computed from it, not the states.
    """

    def jacobian(self, *, sequences: int = 4) -> JacobianSummary:
        """Return the singular values of the step Jacobians and of their product."""
        ...

    def lyapunov(self, *, exponents: int | None = None, sequences: int = 4) -> LyapunovSpectrum:
        """Return the ``exponents`` largest finite-time Lyapunov exponents."""
        ...

    def sensitivity(self, *, tangents: int = 16, sequences: int = 4) -> StateSensitivity:
        """Return how strongly the states depend on the recurrent weights."""
        ...

    def conditions(self) -> Conditions:
        """Return what follows from the weights alone, and what the data say."""
        ...

    def cost(self) -> JacobianCost:
        """Return what the others would cost with their defaults."""
        ...
