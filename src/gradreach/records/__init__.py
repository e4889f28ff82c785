"""Frozen records of what was measured: NumPy inside, plain data outside."""

from __future__ import annotations

from gradreach.records.conditions import Conditions
from gradreach.records.finding import Finding
from gradreach.records.gradient_flow import GradientFlow
from gradreach.records.jacobian_cost import JacobianCost
from gradreach.records.jacobian_summary import JacobianSummary
from gradreach.records.layer_flow import LayerFlow
from gradreach.records.lyapunov_spectrum import LyapunovSpectrum
from gradreach.records.parts import BlindSpot, Gate, LayerTensors, NonFinite, ScaledArray
from gradreach.records.state_sensitivity import StateSensitivity
from gradreach.records.state_space import StateSpace

__all__ = [
    "BlindSpot",
    "Conditions",
    "Finding",
    "Gate",
    "GradientFlow",
    "JacobianCost",
    "JacobianSummary",
    "LayerFlow",
    "LayerTensors",
    "LyapunovSpectrum",
    "NonFinite",
    "ScaledArray",
    "StateSensitivity",
    "StateSpace",
]
