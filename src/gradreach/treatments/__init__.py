"""Remedies that can be tried on a training without editing it.

Example:
    >>> import gradreach as gr
    >>> gr.treatments.Gating("GRU").label
    'gating(GRU)'
"""

from __future__ import annotations

from gradreach.treatments.activation import Activation
from gradreach.treatments.adaptive_clipping import PercentileClipping, UnitClipping
from gradreach.treatments.clipping import NormClipping, ValueClipping
from gradreach.treatments.combined import Combined
from gradreach.treatments.cosine import Cosine
from gradreach.treatments.edit import Edit
from gradreach.treatments.facts import LayerFacts, OptimizerFacts, RunFacts
from gradreach.treatments.families import ALL, treatment_from
from gradreach.treatments.gating import Gating
from gradreach.treatments.initialization import Chrono, ForgetBias, Initialization
from gradreach.treatments.interception import Interception
from gradreach.treatments.joined_windows import JoinedWindows
from gradreach.treatments.learning_rate import LearningRate
from gradreach.treatments.lr_finder import FoundRate
from gradreach.treatments.patch import Patch, patch_of
from gradreach.treatments.percentile_clip import clip_grad_percentile_
from gradreach.treatments.plateau import Plateau
from gradreach.treatments.regularization import Omega
from gradreach.treatments.residual import Euler, LearnedResidual, Residual
from gradreach.treatments.sites import Site
from gradreach.treatments.skip import Skip
from gradreach.treatments.treated import treat, treated
from gradreach.treatments.treatment import Treatment, TreatmentError
from gradreach.treatments.truncation import DetachedState, ShorterGradient, UndoneDetach
from gradreach.treatments.unit_wise_clip import clip_grad_units_
from gradreach.treatments.warm_up import WarmUp

__all__ = [
    "ALL",
    "Activation",
    "Chrono",
    "Combined",
    "Cosine",
    "DetachedState",
    "Edit",
    "Euler",
    "ForgetBias",
    "FoundRate",
    "Gating",
    "Initialization",
    "Interception",
    "JoinedWindows",
    "LayerFacts",
    "LearnedResidual",
    "LearningRate",
    "NormClipping",
    "Omega",
    "OptimizerFacts",
    "Patch",
    "PercentileClipping",
    "Plateau",
    "Residual",
    "RunFacts",
    "ShorterGradient",
    "Site",
    "Skip",
    "Treatment",
    "TreatmentError",
    "UndoneDetach",
    "UnitClipping",
    "ValueClipping",
    "WarmUp",
    "clip_grad_percentile_",
    "clip_grad_units_",
    "patch_of",
    "treat",
    "treated",
    "treatment_from",
]
