"""Frozen records of what was measured: NumPy inside, plain data outside."""

from __future__ import annotations

from gradreach.records.finding import Finding
from gradreach.records.gradient_flow import GradientFlow
from gradreach.records.layer_flow import LayerFlow
from gradreach.records.parts import BlindSpot, Gate, LayerTensors, NonFinite, ScaledArray

__all__ = [
    "BlindSpot",
    "Finding",
    "Gate",
    "GradientFlow",
    "LayerFlow",
    "LayerTensors",
    "NonFinite",
    "ScaledArray",
]
