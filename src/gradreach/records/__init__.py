"""Frozen records of what was measured: NumPy inside, plain data outside."""

from __future__ import annotations

from gradreach.records.comparison import Comparison
from gradreach.records.conditions import Conditions
from gradreach.records.effect import Effect
from gradreach.records.event import Event
from gradreach.records.finding import Finding
from gradreach.records.gradient_flow import GradientFlow
from gradreach.records.history import History
from gradreach.records.jacobian_cost import JacobianCost
from gradreach.records.jacobian_summary import JacobianSummary
from gradreach.records.layer_flow import LayerFlow
from gradreach.records.line_probe import LineProbe
from gradreach.records.lyapunov_spectrum import LyapunovSpectrum
from gradreach.records.parts import BlindSpot, Gate, LayerTensors, NonFinite, ScaledArray
from gradreach.records.sample import LayerSample, Sample
from gradreach.records.sighting import Sighting
from gradreach.records.standing import Standing
from gradreach.records.state_sensitivity import StateSensitivity
from gradreach.records.state_space import StateSpace
from gradreach.records.trial import Trial

__all__ = [
    "BlindSpot",
    "Comparison",
    "Conditions",
    "Effect",
    "Event",
    "Finding",
    "Gate",
    "GradientFlow",
    "History",
    "JacobianCost",
    "JacobianSummary",
    "LayerFlow",
    "LayerSample",
    "LayerTensors",
    "LineProbe",
    "LyapunovSpectrum",
    "NonFinite",
    "Sample",
    "ScaledArray",
    "Sighting",
    "Standing",
    "StateSensitivity",
    "StateSpace",
    "Trial",
]
