"""gradreach: how far back in time the gradient of a recurrent network reaches, and why.

Importing the package imports nothing else: each public name below is fetched on first use
(PEP 562), so that `gradreach --help`, the reading of a saved record and a script that only
wants `__version__` do not wait for torch.

Example:
    >>> import gradreach as gr
    >>> gr.__version__.count(".")
    2
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the same names for mypy and editors; a test keeps the two lists in step
    from gradreach import nn as nn
    from gradreach import treatments as treatments
    from gradreach.diagnosis.diagnose import diagnose as diagnose
    from gradreach.errors import GradreachError as GradreachError
    from gradreach.errors import MissingExtraError as MissingExtraError
    from gradreach.errors import NonFiniteGradientError as NonFiniteGradientError
    from gradreach.errors import NotMeasurableError as NotMeasurableError
    from gradreach.flow.measure import measure as measure
    from gradreach.monitor.logged import log as log
    from gradreach.monitor.loggers import as_logger as as_logger
    from gradreach.monitor.watch import Watch as Watch
    from gradreach.monitor.watch import watch as watch
    from gradreach.records import Comparison as Comparison
    from gradreach.records import Finding as Finding
    from gradreach.records import GradientFlow as GradientFlow
    from gradreach.records import LayerFlow as LayerFlow
    from gradreach.records import Trial as Trial
    from gradreach.records.history import History as History
    from gradreach.runs.csv_log import CsvLog as CsvLog
    from gradreach.training.loop import Training as Training
    from gradreach.trials.compare import compare as compare

__version__ = "0.1.0"  # the one place: the build reads it from this line

# Public name -> the module that defines it. A name whose value is `gradreach.<name>` is that
# sub-package itself.
_EXPORTS = {
    "Comparison": "gradreach.records",
    "CsvLog": "gradreach.runs.csv_log",
    "Finding": "gradreach.records",
    "GradientFlow": "gradreach.records",
    "GradreachError": "gradreach.errors",
    "History": "gradreach.records.history",
    "LayerFlow": "gradreach.records",
    "MissingExtraError": "gradreach.errors",
    "NonFiniteGradientError": "gradreach.errors",
    "NotMeasurableError": "gradreach.errors",
    "Training": "gradreach.training.loop",
    "Trial": "gradreach.records",
    "Watch": "gradreach.monitor.watch",
    "as_logger": "gradreach.monitor.loggers",
    "compare": "gradreach.trials.compare",
    "diagnose": "gradreach.diagnosis.diagnose",
    "log": "gradreach.monitor.logged",
    "measure": "gradreach.flow.measure",
    "nn": "gradreach.nn",
    "treatments": "gradreach.treatments",
    "watch": "gradreach.monitor.watch",
}

__all__ = ["__version__", *_EXPORTS]  # noqa: PLE0604  (the table's keys are strings)


if not TYPE_CHECKING:  # else a type checker would take every misspelt name for an object

    def __getattr__(name: str) -> object:
        if name not in _EXPORTS:
            raise AttributeError(f"module 'gradreach' has no attribute {name!r}")
        module = import_module(_EXPORTS[name])
        value = module if module.__name__ == f"{__name__}.{name}" else getattr(module, name)
        globals()[name] = value  # the next access does not come here
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
