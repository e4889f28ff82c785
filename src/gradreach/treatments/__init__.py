"""Remedies that can be tried on a training without editing it.

Example:
    >>> import gradreach as gr
    >>> gr.treatments.Gating("GRU").label
    'gating(GRU)'
"""

from __future__ import annotations

from gradreach.treatments.combined import Combined
from gradreach.treatments.edit import Edit
from gradreach.treatments.facts import LayerFacts, OptimizerFacts, RunFacts
from gradreach.treatments.families import ALL, treatment_from
from gradreach.treatments.gating import Gating
from gradreach.treatments.interception import Interception
from gradreach.treatments.sites import Site
from gradreach.treatments.treated import treat, treated
from gradreach.treatments.treatment import Treatment, TreatmentError

__all__ = [
    "ALL",
    "Combined",
    "Edit",
    "Gating",
    "Interception",
    "LayerFacts",
    "OptimizerFacts",
    "RunFacts",
    "Site",
    "Treatment",
    "TreatmentError",
    "treat",
    "treated",
    "treatment_from",
]
